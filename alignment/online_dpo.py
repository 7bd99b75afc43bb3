"""The stage `online_dpo`: DPO on pairs that the policy itself has just sampled, ordered by the reward.

Inputs: parent; a reward model for each term of the reward that asks for one; snapshot where no prompts are named.
A step samples some completions of each of its prompts; the best and the worst of them are a pair. Nothing of it
outlives the step, so a resumed run samples the same again. Source: Guo et al. 2024, arXiv:2402.04792.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from alignment import loop
from alignment.config import Job, OnlineDPOConfig
from alignment.data.pairs import EncodedPair
from alignment.guards import Baseline, loop_guards
from alignment.loop import Step
from alignment.models.checkpoints import evaluating
from alignment.models.sequences import Passes
from alignment.models.sharding import whole
from alignment.objectives import paired
from alignment.online import (
    UNIFORM,
    Setting,
    completion_kl,
    finish,
    held_out_watch,
    open_setting,
    reference_logprobs,
    reward_figures,
    sample_informative,
    show_of,
    text_figures,
)
from alignment.sampling.rollouts import Completion, batch_of, rollout_tensors


class Pairs(NamedTuple):
    """What one step learns from: B pairs, none of two completions that earn the same."""

    pairs: list[EncodedPair]
    reference: Tensor  # (B, 2) log-probabilities in nats of chosen and rejected
    figures: dict[str, float]
    tokens: int  # sampled, with their prompts


def run(job: Job, config: OnlineDPOConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: parent; reward, snapshot as the config asks for them."""
    setting = open_setting(job, config)
    return finish(job, config, setting, train(job, config, setting))


def train(job: Job, config: OnlineDPOConfig, setting: Setting) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card."""
    plan, baseline = config.optimization, Baseline()
    passes = Passes(setting.tokenizer.pad_token_id, precision=setting.precision)
    steps = -(-len(setting.prompts) * plan.epochs // config.sampling.prompts)
    steps = min(steps, plan.max_steps) if plan.max_steps else steps

    def take_step(step: int) -> Step:
        with evaluating(setting.model), whole(setting.model):  # dropout belongs to the update alone
            made = sample_pairs(setting, config, seed=job.seed, number=step, baseline=baseline)
        if not made.pairs:
            return Step(0.0, made.tokens, {**made.figures, paired.loss_key(config.loss): 0.0})
        weights = torch.ones(len(made.pairs))
        values = paired.accumulate(setting.model, made.pairs, made.reference, weights, config, passes)
        return Step(values[paired.loss_key(config.loss)], made.tokens, {**made.figures, **values})

    facts = loop.train(
        job,
        plan,
        setting.model,
        steps=steps,
        take_step=take_step,
        parts={"baseline": baseline},
        watch=held_out_watch(setting, config, job.seed),
        guards=loop_guards(config.guards),
        show=show_of(job, config, setting),
    )
    return {"prompts": len(setting.prompts), "held_out_prompts": len(setting.held_out), **facts}


def sample_pairs(setting: Setting, config: OnlineDPOConfig, *, seed: int, number: int, baseline: Baseline) -> Pairs:
    """The pairs of step `number` under the present weights: a pure function of them and of the arguments."""
    completions, rewards, uniform = sample_informative(setting, config, seed=seed, number=number)
    tensors = rollout_tensors(completions, setting.tokenizer.pad_token_id, setting.model.device)
    heat = config.sampling.temperature
    tensors["reference"] = reference_logprobs(setting, tensors, heat)
    plain = tensors["reference"] if heat == 1 else reference_logprobs(setting, tensors, 1.0)
    sums = (plain * batch_of(tensors).completion).sum(1)
    chosen, rejected = best_and_worst(rewards.total, config.sampling.completions)
    figures = {
        **reward_figures(rewards, baseline),
        "uniform_share": uniform,
        **text_figures(completions, baseline),
        "kl_nats": completion_kl(tensors).mean().item(),
        "reward_gap": (rewards.total[chosen] - rewards.total[rejected]).mean().item() if len(chosen) else 0.0,
    }
    pairs = [pair_of(completions[i], completions[j]) for i, j in zip(chosen, rejected, strict=True)]
    places = torch.tensor([chosen, rejected], dtype=torch.long, device=sums.device)
    return Pairs(pairs, sums[places].T, figures, int(tensors["tokens"].sum()))


def best_and_worst(rewards: Tensor, size: int) -> tuple[list[int], list[int]]:
    """Row numbers of the best and the worst completion of each prompt, whose completions stand `size` by `size`.

    A prompt whose completions all earn the same orders nothing and is left out. Of equals the first is taken.
    """
    groups = rewards.view(-1, size)
    chosen, rejected = [], []
    for start, group in zip(range(0, len(rewards), size), groups, strict=True):
        if (group.max() - group.min()).item() > UNIFORM:
            chosen.append(start + int(group.argmax()))
            rejected.append(start + int(group.argmin()))
    return chosen, rejected


def pair_of(chosen: Completion, rejected: Completion) -> EncodedPair:
    """The very ids that were sampled: a completion that met the limit has no end token to learn."""
    return EncodedPair(chosen.prompt.ids, chosen.sample.ids, rejected.sample.ids, margin=0.0)
