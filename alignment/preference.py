"""The stage `preference`: direct preference optimisation against a frozen reference, the parent.

Inputs: snapshot, parent. Before the first step every implicit reward is exactly 0 and the loss is ln 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment import loop
from alignment.batches import batch_at, micro_batches, step_count
from alignment.card import card_of
from alignment.config import Job, JobError, PreferenceConfig
from alignment.logprob import completion_logprobs
from alignment.loop import Step
from alignment.losses.preference import direct_preference, implicit_reward
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


def accumulate(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    reference: Tensor,
    config: PreferenceConfig,
    *,
    pad_id: int,
    tokens: int = MICRO_TOKENS,
) -> PreferenceStats:
    """Add the gradient of the mean loss of B pairs with their reference log-probabilities (B, 2).

    How the pairs are cut into passes of at most `tokens` padded tokens changes nothing but memory.
    """
    policy, losses = torch.zeros_like(reference), 0.0
    for group in micro_batches([2 * p.tokens for p in pairs], range(len(pairs)), tokens):
        logprobs = sequence_logprobs(model, [pairs[i] for i in group], pad_id)
        loss = preference_losses(logprobs, reference[group], config).sum() / len(pairs)
        loss.backward()
        policy[group], losses = logprobs.detach(), losses + loss.item()
    return stats_of(policy, reference, loss=losses, beta=config.beta)


def preference_losses(policy: Tensor, reference: Tensor, config: PreferenceConfig) -> Tensor:
    """(B,) losses in nats for (B, 2) log-probabilities of chosen and rejected."""
    return direct_preference(
        *policy.unbind(1), *reference.unbind(1), beta=config.beta, label_smoothing=config.label_smoothing
    )


def stats_of(policy: Tensor, reference: Tensor, *, loss: float, beta: float) -> PreferenceStats:
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
    )


def train(
    job: Job,
    config: PreferenceConfig,
    model: PreTrainedModel,
    pairs: list[EncodedPair],
    reference: Tensor,
    pad_id: int,
) -> dict[str, Any]:
    """The run, from the saved state where there is one; returns facts for the card.

    No clock is among them: a run that was killed and resumed ends in the very same artifact.
    """
    plan, lengths = config.optimization, [pair.tokens for pair in pairs]
    steps = step_count(len(lengths), batch_size=plan.batch_size, epochs=plan.epochs, max_steps=plan.max_steps)

    def take_step(step: int) -> Step:
        rows = batch_at(lengths, batch_size=plan.batch_size, seed=job.seed, step=step)
        batch = [pairs[i] for i in rows]
        stats = accumulate(model, batch, reference[rows], config, pad_id=pad_id)
        tokens = sum(2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in batch)
        return Step(stats.loss_nats, tokens, stats._asdict())

    return {"pairs": len(pairs), **loop.train(job, plan, model, steps=steps, take_step=take_step)}
