"""What TRL's PPOTrainer computes on tiny models: its rollout, and each minibatch of two passes over it.

TRL has had no PPO since 1.13, so the numbers come from the last release that had it, and no test compares live:

    pip install --target OLD --no-deps trl==1.12.0
    PYTHONPATH=OLD python -m tests.alignment.golden.make_ppo

writes ppo.json. Its loss is written out inside `train`; what it computed is read from there, at the whitening and at
each backward pass.
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy, load_reward
from tests.alignment.golden import HERE, fingerprint, gradients
from tests.alignment.ppo_models import make_models

STOP = 84  # a token that these models write often
CASES = {  # completions that a token ends, and completions that all meet the limit
    "ended": {
        "temperature": 0.1, "stop_token_id": STOP, "missing_eos_penalty": 0.5, "whiten_rewards": True, "gamma": 0.98
    },
    "cut": {
        "temperature": 1.0, "stop_token_id": None, "missing_eos_penalty": None, "whiten_rewards": False, "gamma": 1.0
    },
}  # fmt: skip
SETTINGS = ["temperature", "kl_coef", "gamma", "lam", "cliprange", "cliprange_value", "vf_coef", "whiten_rewards"]
ROLLOUT = ["query_responses", "context_length", "logprobs", "ref_logprobs", "values", "scores", "rewards", "returns",
           "padding_mask", "padding_mask_p1"]  # fmt: skip
STEP = ["micro_batch_inds", "new_logprobs", "vpred", "pg_loss", "vf_loss", "vf_clipfrac", "loss"]
PROMPTS = ["Argue that books help.", "Why?", "Are uniforms good?", "Count to three, please."] * 4


def plain(value):
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def record(case: dict, folder: Path) -> dict:
    trainer, made = make_trainer(case, folder), {"rollout": {}, "steps": []}
    whiten, backward = ppo_trainer.masked_whiten, trainer.accelerator.backward

    def watched_whiten(values, mask, shift_mean=True):
        found = whiten(values, mask, shift_mean)
        if not shift_mean:
            made["rollout"]["rewards_before"] = plain(values)
        elif "advantages" not in made["rollout"]:
            inside = sys._getframe(1).f_locals
            made["rollout"] |= {name: plain(inside[name]) for name in ROLLOUT}
            made["rollout"] |= {"advantages": plain(values), "whitened": plain(found)}
        return found

    def watched_backward(loss, **options):
        inside = sys._getframe(1).f_locals
        backward(loss, **options)
        halves = trainer.args.gradient_accumulation_steps  # accelerate divides by them, though it steps after each
        found = {name: halves * gradients(getattr(inside["model"], part))
                 for name, part in (("policy", "policy"), ("value", "value_model"))}  # fmt: skip
        step = {name: plain(inside[name]) for name in STEP}
        step |= {f"{name}_gradient_norm": plain(gradient.norm()) for name, gradient in found.items()}
        step |= {f"{name}_fingerprint": plain(fingerprint(gradient)) for name, gradient in found.items()}
        made["steps"].append(step)

    ppo_trainer.masked_whiten, trainer.accelerator.backward = watched_whiten, watched_backward
    trainer.train()
    ppo_trainer.masked_whiten = whiten
    return {"settings": {name: getattr(trainer.args, name) for name in SETTINGS}, **made}


def make_trainer(case: dict, folder: Path) -> PPOTrainer:
    """16 completions of 6 tokens, two minibatches of 8, two passes; the steps are large, so that the clips are met."""
    make_models(folder)
    tokenizer = load_tokenizer(folder / "policy")
    tokenizer.padding_side = "left"
    rows = Dataset.from_list([{"input_ids": tokenizer(text)["input_ids"]} for text in PROMPTS])
    args = PPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=8, gradient_accumulation_steps=2,
        num_mini_batches=2, num_ppo_epochs=2, total_episodes=16, response_length=6, learning_rate=0.02, kl_coef=0.1,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        num_sample_generations=0, save_strategy="no", vf_coef=0.1, seed=0, **case,
    )  # fmt: skip
    policy, reference = load_policy(folder / "policy"), load_policy(folder / "reference")
    reward, value = load_reward(folder / "reward"), load_reward(folder / "value")
    return PPOTrainer(args, tokenizer, policy, reference, reward, rows, value, eval_dataset=rows)


def main() -> None:
    torch.manual_seed(0)
    told = {"made_with": {name: version(name) for name in ("trl", "torch", "transformers")}}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            told[name] = record(case, Path(folder))
    (HERE / "ppo.json").write_text(json.dumps(told, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
