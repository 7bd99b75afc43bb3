"""The job file: what a stage is asked to do. Torch-free, so the web application may import it.

Every stage reads one `Job` from `job.json` and one config dataclass of its own. A field that the stage does not know,
or a value out of its range, is a `JobError` that names the field, the value and the remedy.
"""

from __future__ import annotations

from typing import Any

from alignment.config.guards import Guards, guards  # noqa: F401
from alignment.config.job import (  # noqa: F401
    EXIT_BAD_INPUT,
    EXIT_DISK_FULL,
    EXIT_DONE,
    EXIT_NON_FINITE,
    EXIT_STOPPED,
    SHARDED,
    Helped,
    Input,
    Job,
    JobError,
    NonFiniteStep,
    ServerLost,
    Stopped,
    build,
    require,
    require_devices,
)
from alignment.config.language import PretrainConfig, SFTConfig, TokenizerConfig
from alignment.config.measuring import AuditConfig, EvaluateConfig, InspectConfig, ScoreConfig
from alignment.config.mitigation import Mitigation  # noqa: F401
from alignment.config.online import GRPOConfig, SafeConfig
from alignment.config.ppo import PPOConfig, SafePPOConfig
from alignment.config.preferences import COST, REWARD, Heads, Labels, PreferenceConfig, RewardConfig  # noqa: F401
from alignment.config.sampling import BestOfNConfig, GenerateConfig, OnlineDPOConfig
from alignment.config.training import PRECISIONS, Lora, Optimization, lora, optimization  # noqa: F401

CONFIGS = {
    "tokenizer": TokenizerConfig,
    "pretrain": PretrainConfig,
    "sft": SFTConfig,
    "reward": RewardConfig,
    "preference": PreferenceConfig,
    "ppo": PPOConfig,
    "grpo": GRPOConfig,
    "safe": SafeConfig,
    "safe_ppo": SafePPOConfig,
    "online_dpo": OnlineDPOConfig,
    "generate": GenerateConfig,
    "best_of_n": BestOfNConfig,
    "score": ScoreConfig,
    "evaluate": EvaluateConfig,
    "audit": AuditConfig,
    "inspect": InspectConfig,
}


def stage_config(job: Job) -> Any:
    """The stage's own config. Raises JobError for an unknown stage or a bad value."""
    if job.stage not in CONFIGS:
        raise JobError(f"there is no stage {job.stage!r}; choose one of {', '.join(CONFIGS)}")
    config = build(CONFIGS[job.stage], job.config)
    require_devices(job.stage, job.devices, config)
    return config
