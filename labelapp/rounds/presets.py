"""The recipes that ship, as plain data: an ordered list of stages each, and the settings that their form shows.

A stage spec is {"name", "stage", "config", "inputs"}. Inputs are symbols that the supervisor resolves to a path and a
digest: "snapshot", "parent", "stage:NAME" (the checkpoint of an earlier stage) or "version:PK". A config value
"file:NAME/FILE" is a file that an earlier stage wrote.
"""

from typing import Any, NamedTuple

from django.utils.text import capfirst

SNAPSHOT_AND_PARENT = {"snapshot": "snapshot", "parent": "parent"}
SHOWN = {"show": 3}  # answers to watch while a policy changes
ONLINE = SHOWN | {"reward": {"normalize": True, "missing_end_penalty": 1.0}, "guards": {"max_kl_nats": 30.0}}


class Preset(NamedTuple):
    """A recipe to start from."""

    title: str
    about: str
    stages: list[dict[str, Any]]


class Option(NamedTuple):
    """A setting that the form shows: the path of a config value, such as "preference.beta"."""

    path: str
    label: str
    hint: str = ""


def stage(name: str, config: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "stage": name, "config": config, "inputs": inputs}


def reward(**config: Any) -> dict[str, Any]:
    usual = {"optimization": {"learning_rate": 3e-4, "epochs": 1}}
    return stage("reward", usual | config, SNAPSHOT_AND_PARENT)


def online(name: str, steps: int, config: dict[str, Any], **inputs: str) -> dict[str, Any]:
    plan = {"optimization": {"learning_rate": 5e-5, "epochs": 100, "max_steps": steps}}
    return stage(name, ONLINE | plan | config, SNAPSHOT_AND_PARENT | {"reward": "stage:reward"} | inputs)


def measured(policy: str) -> list[dict[str, Any]]:
    """The stages that end every recipe: accuracy and win rate for the gate, then bias, safety and calibration."""
    judged = {"snapshot": "snapshot", "reward": "stage:reward"}
    made = {"policy": f"stage:{policy}"}
    evaluated, audited = judged | made | {"parent": "parent"}, made | {"policy_champion": "parent"}
    return [
        stage("evaluate", {"max_prompts": 128, "answers": 100}, evaluated if policy else judged),
        stage("audit", {"max_items": 100, "max_new_tokens": 32}, audited if policy else judged),
    ]


PRESETS = {
    "reward-dpo": Preset(
        "Reward model, then DPO",
        "Improves the policy on the judged pairs themselves; the reward model only measures. The usual first round.",
        [
            reward(),
            stage(
                "preference",
                {"beta": 0.1, "optimization": {"learning_rate": 3e-5, "epochs": 1}} | SHOWN,
                SNAPSHOT_AND_PARENT,
            ),
            *measured("preference"),
        ],
    ),
    "reward": Preset(
        "Reward model alone",
        "Learns what the labelers prefer and measures how well; no policy is changed.",
        [reward(), *measured("")],
    ),
    "best-of-n": Preset(
        "Best of n, then fine-tuning",
        "Samples several answers of a prompt, keeps the one that the reward model likes best, and fine-tunes on those.",
        [
            reward(),
            stage(
                "best_of_n",
                {"max_prompts": 256, "sampling": {"completions": 8, "prompts": 16}},
                {"snapshot": "snapshot", "policy": "parent", "reward": "stage:reward"},
            ),
            stage(
                "sft",
                {"rows": "file:best_of_n/rows.jsonl", "optimization": {"learning_rate": 3e-5, "epochs": 2}} | SHOWN,
                {"parent": "parent"},
            ),
            *measured("sft"),
        ],
    ),
    "online-dpo": Preset(
        "Online DPO",
        "DPO on pairs that the policy has just sampled and the reward model ordered.",
        [
            reward(),
            online("online_dpo", 40, {"beta": 0.1, "sampling": {"prompts": 16, "completions": 2}}),
            *measured("online_dpo"),
        ],
    ),
    "grpo": Preset(
        "GRPO",
        "Policy gradients on the reward; each answer is measured against the others to the same prompt.",
        [
            reward(),
            online("grpo", 40, {"kl": {"beta": 0.05}, "sampling": {"prompts": 8, "completions": 8}}),
            *measured("grpo"),
        ],
    ),
    "ppo": Preset(
        "PPO",
        "Policy gradients on the reward with a value model, as InstructGPT was trained.",
        [
            reward(),
            online("ppo", 80, {"kl": {"beta": 0.05}, "sampling": {"prompts": 64, "completions": 1, "passes": 2}}),
            *measured("ppo"),
        ],
    ),
    "safe": Preset(
        "Safe RLHF",
        "GRPO whose answers may not be rated unsafe on average: needs judgments under a protocol that asks for safety.",
        [
            reward(heads={"safety": True}),
            online(
                "safe",
                40,
                {"kl": {"beta": 0.05}, "sampling": {"prompts": 8, "completions": 8}},
                cost="stage:reward",
            ),
            *measured("safe"),
        ],
    ),
}

USUAL = "reward-dpo"
LEARNING = Option("optimization.learning_rate", "learning rate")
SAMPLED = [
    Option("sampling.prompts", "prompts a rollout"),
    Option("sampling.completions", "answers a prompt"),
    Option("sampling.max_new_tokens", "longest answer", "in tokens"),
]
STEPS = Option("optimization.max_steps", "optimizer steps", "more steps go further from the parent")
KL = Option("kl.beta", "KL weight", "larger stays closer to the parent")
STAGE_OPTIONS = {  # paths within a stage's config
    "reward": [
        Option("optimization.epochs", "epochs", "1 is usual: a second epoch tends to overfit"),
        LEARNING,
        Option("counterfactual_weight", "penalty weight", "used with the counterfactual penalty only"),
    ],
    "preference": [
        Option("optimization.epochs", "epochs"),
        LEARNING,
        Option("beta", "beta", "larger stays closer to the parent"),
    ],
    "best_of_n": [Option("max_prompts", "prompts", "0 takes all"), *SAMPLED[1:]],
    "sft": [Option("optimization.epochs", "epochs"), LEARNING],
    "online_dpo": [STEPS, LEARNING, Option("beta", "beta", "larger stays closer to the parent"), *SAMPLED],
    "grpo": [STEPS, LEARNING, KL, *SAMPLED],
    "ppo": [STEPS, LEARNING, KL, SAMPLED[0], SAMPLED[2]],
    "safe": [STEPS, LEARNING, KL, Option("cost.limit", "cost limit", "0 is the boundary of unsafe"), *SAMPLED],
    "evaluate": [Option("max_prompts", "held-out prompts to sample", "fewer is faster, with wider intervals")],
    "audit": [Option("max_items", "items of each suite", "0 takes all: XSTest has 450, BBQ 600")],
}
LABELS = {  # what a stage is called on the pages
    "reward": "reward model",
    "reward_baseline": "reward model, penalty off",
    "preference": "DPO",
    "best_of_n": "best of n",
    "sft": "fine-tuning",
    "online_dpo": "online DPO",
    "grpo": "GRPO",
    "ppo": "PPO",
    "safe": "safe RLHF",
    "evaluate": "evaluate",
    "audit": "audit",
    "sample": "sample",
    "sample_promoted": "sample the promoted",
    "sample_parent": "sample its parent",
}


def options_of(preset: str) -> list[Option]:
    """The settings of a preset's form, in the order of its stages."""
    return [
        Option(f"{spec['stage']}.{option.path}", f"{capfirst(LABELS[spec['stage']])}: {option.label}", option.hint)
        for spec in PRESETS[preset].stages
        for option in STAGE_OPTIONS[spec["stage"]]
    ]
