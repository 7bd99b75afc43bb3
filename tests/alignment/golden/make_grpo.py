"""The group-relative losses by TRL: its advantages, its log-probabilities and its loss, on planted completions.

`python -m tests.alignment.golden.make_grpo` writes grpo.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy
from tests.alignment.golden import Computed, gradients, save
from tests.alignment.grpo_cases import ANSWERS, CASES, GROUP, LONGEST, PROMPTS, REWARDS, make_models

GRPO = {  # their options
    "grpo": {"loss_type": "grpo", "beta": 0.3},
    "grpo_uncorrected": {"loss_type": "grpo", "beta": 0.3, "use_bias_correction_kl": False},
    "grpo_clipped": {"loss_type": "grpo", "beta": 0.0, "epsilon": 0.05},
    "grpo_warm": {"loss_type": "grpo", "beta": 0.1, "temperature": 0.7},
    "dapo": {"loss_type": "dapo", "beta": 0.0, "epsilon": 0.2, "epsilon_high": 0.28},
    "dapo_finished": {
        "loss_type": "dapo", "beta": 0.2, "epsilon": 0.2, "epsilon_high": 0.28, "mask_truncated_completions": True
    },
    "dr_grpo": {"loss_type": "dr_grpo", "beta": 0.3, "scale_rewards": "none"},
    "gspo": {"loss_type": "grpo", "beta": 0.0, "epsilon": 0.1, "importance_sampling_level": "sequence"},
}  # fmt: skip


def theirs(name: str, models: Path, folder: Path) -> Computed:
    """What the old policy sampled is judged, then the loss is taken under the new policy's weights."""
    if name == "rloo":
        trainer = open_trainer(RLOOTrainer, RLOOConfig, models, folder, {"beta": 0.05})
    else:
        trainer = open_trainer(GRPOTrainer, GRPOConfig, models, folder, GRPO[name])
    trainer.model.eval()  # the whole batch in one step, not a part of one
    with torch.no_grad():
        batch = trainer._generate_and_score_completions([{"prompt": PROMPTS[i // GROUP]} for i in range(len(ANSWERS))])
        if name != "rloo":
            batch["old_per_token_logps"] = sampled_logprobs(trainer, batch)
    trainer.model.load_state_dict(load_policy(models / "policy").state_dict())
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return Computed(rows_of(batch), loss.item(), gradients(trainer.model))


def open_trainer(kind, arguments, models: Path, folder: Path, options: dict):
    rewards = iter(REWARDS)
    trainer = kind(
        model=load_policy(models / "old"),
        reward_funcs=lambda completions, **_: [next(rewards) for _ in completions],
        args=arguments(
            output_dir=str(folder), per_device_train_batch_size=len(ANSWERS), per_device_eval_batch_size=len(ANSWERS),
            num_generations=GROUP, max_completion_length=LONGEST, report_to="none", use_cpu=True, bf16=False,
            gradient_checkpointing=False, disable_tqdm=True, **options,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=load_tokenizer(models / "old"),
    )  # fmt: skip
    if options["beta"]:
        trainer.ref_model.load_state_dict(load_policy(models / "reference").state_dict())
    trainer._generate_single_turn = lambda *_: ANSWERS if kind is RLOOTrainer else (ANSWERS, None)
    return trainer


def sampled_logprobs(trainer, batch: dict) -> torch.Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, batch["completion_ids"].shape[1])[0]


def rows_of(batch: dict) -> list:
    """Prompts and answers without their padding; a masked answer is an answer all the same."""
    prompts = zip(batch["prompt_ids"], batch["prompt_mask"].bool(), strict=True)
    return sorted([ids[real].tolist(), answer] for (ids, real), answer in zip(prompts, ANSWERS, strict=True))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder))
        save("grpo", {name: theirs(name, models, Path(folder) / "trl") for name in CASES})


if __name__ == "__main__":
    main()
