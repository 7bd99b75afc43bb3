"""What the stages that learn from a policy's own samples share: inputs, a rollout, the run, held-out prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import loop
from alignment.config import Job
from alignment.data.text import load_tokenizer
from alignment.guards import Baseline, disagreement, length_ratio, loop_guards, mean_repetition
from alignment.loop import Step, Watch
from alignment.losses.policy import kl_estimate
from alignment.models.adapters import without
from alignment.models.card import card_of
from alignment.models.checkpoints import evaluating, load_policy, save_checkpoint
from alignment.models.precision import autocast, prepare_for_training
from alignment.models.sharding import whole
from alignment.sampling.control import KLController
from alignment.sampling.correction import correct
from alignment.sampling.remote import RemoteSampler
from alignment.sampling.rewards import (
    Rewards,
    Source,
    joined_rewards,
    reward_sources,
    rewards_of,
    rows_of_rewards,
)
from alignment.sampling.rollouts import (
    Completion,
    Prompt,
    Rollouts,
    batch_of,
    minibatch_at,
    prompts_at,
    read_prompts,
    rollout_logprobs,
    rollout_tensors,
    sample_completions,
    set_aside,
)
from alignment.sampling.shown import shown
from alignment.state import Part

HELD_OUT_COMPLETIONS = 4  # of each held-out prompt, always with the same seeds
UNIFORM = 1e-6  # a group whose rewards spread less than this teaches nothing
# The held-out completions and their mean reward to further figures.
More = Callable[[Sequence[Completion], float], dict[str, float]]


class Setting(NamedTuple):
    """All that rollouts are made with."""

    model: PreTrainedModel
    reference: PreTrainedModel | None  # nothing where the model without its adapter is the reference
    precision: str  # of the updates: fp32 or bf16
    tokenizer: PreTrainedTokenizerBase
    sources: list[Source]
    prompts: list[Prompt]
    held_out: list[Prompt]
    sampler: Callable[..., list[Completion]] = sample_completions  # of rollouts; held-out prompts are sampled here


class Rollout(NamedTuple):
    """N completions, just sampled and judged."""

    completions: list[Completion]
    tensors: dict[str, Tensor]  # of `rollout_tensors`, with reward (N,) and, where it is needed, reference (N, T)
    figures: dict[str, float]


# A rollout to the tensors that its updates learn from, and further figures. It steers the KL's weight.
Estimate = Callable[[Rollout, KLController], tuple[dict[str, Tensor], dict[str, float]]]
# A minibatch, the KL's weight, and whether the weights are still those that sampled, to the figures of its step;
# `loss` is one of them. The gradients are left in the model.
Accumulate = Callable[[dict[str, Tensor], float, bool], Any]


def open_setting(job: Job, config: Any) -> Setting:
    """Inputs: parent, and what the config's rewards and prompts name. Raises JobError."""
    parent = job.input_path("parent")
    model, tokenizer = load_policy(parent), load_tokenizer(parent)
    room = model.config.max_position_embeddings - config.sampling.max_new_tokens
    snapshot = job.input_path("snapshot") if "snapshot" in job.inputs else None
    prompts, held_out = set_aside(read_prompts(config.prompts, snapshot, tokenizer, room=room), config.held_out_prompts)
    sources = reward_sources(job, config.reward.terms, max_length=config.reward.max_length)
    reference = None if config.lora else load_policy(parent).requires_grad_(False)
    precision = prepare_for_training(model, config, job, samples=True)
    server = config.sampling.server
    sampler = RemoteSampler(model, tokenizer, server, prompts) if server else sample_completions
    return Setting(model, reference, precision, tokenizer, sources, prompts, held_out, sampler)


def reference_logprobs(setting: Setting, tensors: Mapping[str, Tensor], temperature: float) -> Tensor:
    """(N, T) log-probabilities of a rollout under the parent, in the updates' precision."""
    if setting.reference is None:
        with without(setting.model), autocast(setting.precision):
            return rollout_logprobs(setting.model, tensors, temperature)
    with autocast(setting.precision):
        return rollout_logprobs(setting.reference, tensors, temperature)


def step_counts(config: Any, prompts: int) -> tuple[int, int]:
    """(optimizer steps of the run, optimizer steps a rollout); an epoch is one pass over the prompts."""
    sampling, plan = config.sampling, config.optimization
    each = sampling.passes * sampling.prompts * sampling.completions // plan.batch_size
    steps = each * -(-prompts * plan.epochs // sampling.prompts)
    return (min(steps, plan.max_steps) if plan.max_steps else steps), each


def collect(setting: Setting, config: Any, *, seed: int, number: int, baseline: Baseline) -> Rollout:
    """Rollout `number` under the present weights: a pure function of them and of the arguments."""
    with evaluating(setting.model), whole(setting.model):
        completions, rewards, uniform = sample_informative(setting, config, seed=seed, number=number)
        tensors = rollout_tensors(completions, setting.tokenizer.pad_token_id, setting.model.device)
        tensors["reward"] = rewards.total.to(setting.model.device)
        figures = {**reward_figures(rewards, baseline), "uniform_share": uniform, **text_figures(completions, baseline)}
        server = config.sampling.server
        if setting.precision == "bf16" or server:  # the sampler's fp32 is not what the updates compute
            with autocast(setting.precision):
                old = rollout_logprobs(setting.model, tensors, config.sampling.temperature)
            figures |= correct(tensors, old, completions, server, number) if server else {}
            tensors["old"] = old
        if needs_reference(config):
            tensors["reference"] = reference_logprobs(setting, tensors, config.sampling.temperature)
            figures["kl_nats"] = completion_kl(tensors).mean().item()
    return Rollout(completions, tensors, figures)


def needs_reference(config: Any) -> bool:
    """Whether any step asks how far the policy is from its reference."""
    return config.kl.beta > 0 or config.guards.max_kl_nats > 0


def completion_kl(tensors: dict[str, Tensor]) -> Tensor:
    """(N,) k1 estimates of the KL of policy and reference when sampled, in nats a completion."""
    return (kl_estimate(tensors["old"], tensors["reference"], "k1") * batch_of(tensors).completion).sum(1)


def sample_informative(
    setting: Setting, config: Any, *, seed: int, number: int
) -> tuple[list[Completion], Rewards, float]:
    """(completions, their rewards, share of uniform groups among all that were sampled).

    A group whose completions all earn the same has no advantage. Where the config allows more than one try, such a
    group makes room for another prompt's; after the last try the rollout is filled up with uniform ones, so that its
    size never changes. Source: Yu et al. 2025, arXiv:2503.14476, section 3.2.
    """
    how, groups, rest, sampled = config.sampling, [], [], 0
    for attempt in range(how.tries):
        wanted = how.prompts - len(groups)
        if not wanted:
            break
        made = _judged_groups(setting, config, _candidates(setting.prompts, wanted, seed, number, attempt), seed,
                              [number, attempt])  # fmt: skip
        sampled += len(made)
        groups += [group for group in made if not is_uniform(group[1])]
        rest += [group for group in made if is_uniform(group[1])]
    chosen = (groups + rest)[: how.prompts]
    completions = [made for group, _ in chosen for made in group]
    return completions, joined_rewards([rewards for _, rewards in chosen]), len(rest) / sampled


def _candidates(prompts: Sequence[Prompt], wanted: int, seed: int, number: int, attempt: int) -> list[Prompt]:
    """The prompts of a try: first those whose turn it is, then any."""
    if attempt == 0:
        return prompts_at(prompts, wanted, seed=seed, number=number)
    draw = np.random.Generator(np.random.PCG64([seed, number, attempt]))
    return [prompts[i] for i in draw.integers(len(prompts), size=wanted)]


def _judged_groups(
    setting: Setting, config: Any, prompts: Sequence[Prompt], seed: int, occasion: Sequence[Any]
) -> list[tuple[list[Completion], Rewards]]:
    how = config.sampling
    completions = setting.sampler(setting.model, setting.tokenizer, prompts, how, seed=seed, occasion=occasion)
    rewards, size = rewards_of(completions, setting.sources, config.reward), how.completions
    groups = [slice(start, start + size) for start in range(0, len(completions), size)]
    return [(completions[rows], rows_of_rewards(rewards, rows)) for rows in groups]


def is_uniform(rewards: Rewards) -> bool:
    return rewards.total.std(correction=0).item() < UNIFORM


def reward_figures(rewards: Rewards, baseline: Baseline) -> dict[str, float]:
    """Mean and spread of what was earned, the mean of each term, and how far ensembles disagree more than at first."""
    figures = {"reward": rewards.total.mean().item(), "reward_sd": rewards.total.std(correction=0).item()}
    figures |= {f"reward_{name}": part.mean().item() for name, part in rewards.parts.items()}
    doubts = [baseline.ratio(f"doubt of {name}", disagreement(scores)) for name, scores in rewards.ensembles.items()]
    return figures | ({"disagreement_ratio": max(doubts)} if doubts else {})


def text_figures(completions: Sequence[Completion], baseline: Baseline) -> dict[str, float]:
    """Length, ends, repetition, and the entropy as the mean of -log p over the sampled tokens, in nats a token."""
    samples = [made.sample for made in completions]
    lengths, surprise = [len(s.ids) for s in samples], [-p for s in samples for p in s.logprobs]
    return {
        "completion_tokens": float(np.mean(lengths)),
        "finished_share": float(np.mean([s.finished for s in samples])),
        "entropy_nats": float(np.mean(surprise)),
        "repetition": mean_repetition([s.ids for s in samples]),
        "length_ratio": length_ratio(baseline, lengths),
    }


def held_out_watch(
    setting: Setting, config: Any, seed: int, more: More = lambda completions, reward: {}, key: str = "held_out_reward"
) -> Watch | None:
    """Reward, KL and what `more` adds on prompts that no step learns from; nothing where none were set aside."""
    if not setting.held_out:
        return None
    how = replace(config.sampling, completions=HELD_OUT_COMPLETIONS)
    model, tokenizer = setting.model, setting.tokenizer

    def measure() -> dict[str, float]:
        made = sample_completions(model, tokenizer, setting.held_out, how, seed=seed, occasion=["held out"])
        tensors = rollout_tensors(made, tokenizer.pad_token_id, model.device)
        tensors["reference"] = reference_logprobs(setting, tensors, how.temperature)
        reward = rewards_of(made, setting.sources, config.reward).total.mean().item()
        drift = completion_kl(tensors).mean().item()
        return {"held_out_reward": reward, "held_out_kl_nats": drift, **more(made, reward)}

    return Watch(measure, key)


def show_of(job: Job, config: Any, setting: Setting) -> Callable[[int], None] | None:
    """What shows people the policy's answers, where the config asks for it."""
    prompts = [*setting.held_out, *setting.prompts]
    return shown(job, setting.model, setting.tokenizer, (prompt.ids for prompt in prompts), config.show)


def learn_from_rollouts(
    job: Job,
    config: Any,
    setting: Setting,
    model: torch.nn.Module,
    *,
    estimate: Estimate,
    accumulate: Accumulate,
    watch: Watch | None,
    parts: Mapping[str, Part] | None = None,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card.

    A rollout is sampled and judged once and learnt from in `each` steps. All that outlives a step is a part of the
    state: the rollout with what `estimate` found, the KL's weight, what the guards compare with, and what `parts` adds.
    """
    steps, each = step_counts(config, len(setting.prompts))
    rollouts, baseline = Rollouts(), Baseline()
    controller = KLController(config.kl.beta, target_nats=config.kl.target_nats, horizon=config.kl.horizon)
    remote = {"sampler": setting.sampler} if config.sampling.server else {}

    def refill(number: int) -> None:
        made = collect(setting, config, seed=job.seed, number=number, baseline=baseline)
        tensors, figures = estimate(made, controller)
        rollouts.fill({**made.tensors, **tensors}, {**made.figures, **figures})

    def take_step(step: int) -> Step:
        number, place = divmod(step, each)
        if place == 0:
            refill(number)
        rows = minibatch_at(len(rollouts), config.optimization.batch_size, seed=job.seed, step=step)
        batch = rollouts.take(rows, setting.model.device)
        stats = accumulate(batch, controller.beta, place == 0)
        return Step(stats.loss, int(batch["tokens"].sum()), {**rollouts.figures, **stats._asdict()})

    facts = loop.train(
        job,
        config.optimization,
        model,
        steps=steps,
        take_step=take_step,
        parts={"rollouts": rollouts, "kl": controller, "baseline": baseline, **remote, **(parts or {})},
        watch=watch,
        guards=loop_guards(config.guards),
        cycle=each,
        show=show_of(job, config, setting),
    )
    return {"prompts": len(setting.prompts), "held_out_prompts": len(setting.held_out), **facts}


def steer(controller: KLController, rollout: Rollout) -> None:
    """Let the controller learn how far the policy was from its reference when it sampled."""
    controller.update(rollout.figures.get("kl_nats", 0.0), len(rollout.completions))


def finish(job: Job, config: Any, setting: Setting, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the policy's checkpoint; returns what result.json says of it."""
    path = Path(job.output) / "checkpoint"
    digest = save_checkpoint(setting.model, setting.tokenizer, path, card_of(job, config, metrics=[], **facts))
    return {"checkpoint": {"path": str(path), "sha256": digest}, "metrics": []}
