"""The stage `preference`: direct preference optimisation against a frozen reference, the parent.

Inputs: snapshot, parent. Before the first step every implicit reward is exactly 0 and the loss is ln 2.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.batches import batches_from, micro_batches, step_count
from alignment.card import card_of
from alignment.config import Job, JobError, PreferenceConfig
from alignment.logprob import completion_logprobs
from alignment.loop import (
    Metrics,
    Stopped,
    StopSignal,
    clipped_step,
    load_state,
    make_optimizer,
    save_state,
    schedule,
)
from alignment.losses import direct_preference, implicit_reward
from alignment.model import load_policy, save_checkpoint
from alignment.pairs import EncodedPair, collate, encode_pairs, read_pairs
from alignment.text import load_tokenizer

MICRO_TOKENS = 16384  # padded tokens of one forward pass


def run(job: Job, config: PreferenceConfig) -> dict[str, Any]:
    """Train to the end and write the checkpoint. Inputs: snapshot, parent."""
    snapshot, parent = job.input_path("snapshot"), job.input_path("parent")
    tokenizer = load_tokenizer(parent)
    pairs, dropped = read_training_pairs(tokenizer, snapshot, config)
    model = load_policy(parent)
    reference = pair_logprobs(model, pairs, tokenizer.pad_token_id)  # the model is still the parent
    facts = train(job, config, model, pairs, reference, tokenizer.pad_token_id)
    card = card_of(job, config, metrics=[], dropped_pairs=dropped, **facts)
    path = Path(job.output) / "checkpoint"
    digest = save_checkpoint(model, tokenizer, path, card)
    return {"checkpoint": {"path": str(path), "sha256": digest}, "metrics": [], "dropped_pairs": dropped}


def read_training_pairs(
    tokenizer: PreTrainedTokenizerBase, snapshot: Path, config: PreferenceConfig
) -> tuple[list[EncodedPair], int]:
    """The decisive training pairs that fit, and how many did not. Raises JobError where nothing can be learned."""
    encoded, dropped = encode_pairs(tokenizer, read_pairs(snapshot, "train"), config.max_length)
    if not encoded:
        limit = f"{config.max_length} tokens"
        raise JobError(f"{snapshot} has no training pair of at most {limit}; freeze more judgments or raise max_length")
    return encoded, len(dropped)


class PreferenceStats(NamedTuple):
    loss_nats: float  # a pair
    accuracy: float  # share of pairs whose implicit rewards rank them as labeled, 0 to 1
    margin: float  # mean implicit reward of chosen minus rejected
    chosen_logp_nats: float  # mean over completions, summed over their tokens
    rejected_logp_nats: float  # a falling chosen_logp_nats is the first sign of trouble
    chosen_reward: float  # mean implicit reward: beta times the log-ratio
    rejected_reward: float
    log_ratio_nats: float  # mean of policy over reference on both completions; not a KL: these are not its samples
    gradient_norm: float  # before clipping


def sequence_logprobs(model: PreTrainedModel, pairs: Sequence[EncodedPair], pad_id: int) -> Tensor:
    """(B, 2) log-probabilities in nats of chosen and rejected completions, summed over tokens with the end token."""
    batch = collate(pairs, pad_id)
    ids, mask, completion = (t.to(model.device) for t in (batch.ids, batch.mask, batch.completion_mask))
    return completion_logprobs(model, ids, mask, completion).sum(dim=1).view(2, -1).T


@torch.no_grad()
def pair_logprobs(
    model: PreTrainedModel, pairs: Sequence[EncodedPair], pad_id: int, tokens: int = MICRO_TOKENS
) -> Tensor:
    """(N, 2) log-probabilities of all pairs, without a graph: the frozen reference's, taken once."""
    found = torch.zeros(len(pairs), 2, device=model.device)
    for group in micro_batches([2 * p.tokens for p in pairs], range(len(pairs)), tokens):
        found[group] = sequence_logprobs(model, [pairs[i] for i in group], pad_id)
    return found


def preference_step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    pairs: Sequence[EncodedPair],
    reference: Tensor,
    config: PreferenceConfig,
    *,
    learning_rate: float,
    pad_id: int,
    tokens: int = MICRO_TOKENS,
) -> PreferenceStats:
    """One optimizer step on B pairs with their reference log-probabilities (B, 2). Raises NonFiniteStep before any
    weight changes. How the pairs are cut into passes of at most `tokens` tokens changes nothing but memory."""
    policy, losses = torch.zeros_like(reference), 0.0
    for group in micro_batches([2 * p.tokens for p in pairs], range(len(pairs)), tokens):
        logprobs = sequence_logprobs(model, [pairs[i] for i in group], pad_id)
        loss = preference_losses(logprobs, reference[group], config).sum() / len(pairs)
        loss.backward()
        policy[group], losses = logprobs.detach(), losses + loss.item()
    gradient_norm = clipped_step(
        model, optimizer, loss=losses, learning_rate=learning_rate, max_grad_norm=config.optimization.max_grad_norm
    )
    return stats_of(policy, reference, loss=losses, gradient_norm=gradient_norm, beta=config.beta)


def preference_losses(policy: Tensor, reference: Tensor, config: PreferenceConfig) -> Tensor:
    """(B,) losses in nats for (B, 2) log-probabilities of chosen and rejected."""
    return direct_preference(
        *policy.unbind(1), *reference.unbind(1), beta=config.beta, label_smoothing=config.label_smoothing
    )


def stats_of(policy: Tensor, reference: Tensor, *, loss: float, gradient_norm: float, beta: float) -> PreferenceStats:
    rewards = implicit_reward(policy, reference, beta=beta)  # (B, 2)
    margins = rewards[:, 0] - rewards[:, 1]
    return PreferenceStats(
        loss_nats=loss,
        accuracy=((margins.sign() + 1) / 2).mean().item(),
        margin=margins.mean().item(),
        chosen_logp_nats=policy[:, 0].mean().item(),
        rejected_logp_nats=policy[:, 1].mean().item(),
        chosen_reward=rewards[:, 0].mean().item(),
        rejected_reward=rewards[:, 1].mean().item(),
        log_ratio_nats=(policy - reference).mean().item(),
        gradient_norm=gradient_norm,
    )


def train(
    job: Job,
    config: PreferenceConfig,
    model: PreTrainedModel,
    pairs: list[EncodedPair],
    reference: Tensor,
    pad_id: int,
) -> dict[str, Any]:
    """The loop, from the saved state where there is one; returns facts for the card.

    No clock is among them: a run that was killed and resumed ends in the very same artifact.
    """
    plan, lengths = config.optimization, [pair.tokens for pair in pairs]
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)
    optimizer, stop = make_optimizer(model, plan), StopSignal()
    state = load_state(job, model, optimizer)
    metrics = Metrics(job.output, steps, state["seconds"])
    order = batches_from(lengths, batch_size=plan.batch_size, seed=job.seed, start=state["step"], steps=steps)
    for step, rows in order:
        started, done = time.monotonic(), step + 1
        batch = [pairs[i] for i in rows]
        rate = plan.learning_rate * schedule(step, steps, warmup_share=plan.warmup_share)
        stats = preference_step(model, optimizer, batch, reference[rows], config, learning_rate=rate, pad_id=pad_id)
        tokens = sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in batch)
        speed = tokens / max(1e-9, time.monotonic() - started)
        metrics.write(done, **stats._asdict(), learning_rate=rate, tokens_per_second=speed)
        if stop.requested or done % plan.checkpoint_every == 0 or done == steps:
            save_state(job, model, optimizer, step=done, seconds=metrics.seconds)
        if stop.requested and done < steps:
            raise Stopped(f"stopped after step {done} of {steps}")
    return {"steps": steps, "pairs": len(pairs)}
