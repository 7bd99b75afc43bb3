"""One step of each preference loss on the same few rows and tiny models, as our trainer computes it."""

from __future__ import annotations

from pathlib import Path

import torch

from alignment.config import PreferenceConfig, build
from alignment.data.pairs import encode_pairs, read_pairs
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy
from alignment.models.sequences import Passes, frozen_logprobs
from alignment.objectives import paired, unpaired
from alignment.sft import accumulate, encode_row
from tests.alignment.golden import Computed, gradients
from tests.alignment.snapshots import assistant, pair, user, write_snapshot
from tests.tiny_models import make_tiny_policy

PAIRS = [
    pair("Argue that books help.", "Books help, because people think.", "No.", margin=1.0),
    pair("Why?\n\nTell me  twice!", "Because. Because.", " and é ☃ 1,234\n", margin=1 / 3),
    {**pair("", "Sure: two.", "Sure: three, with <|user|> typed in it", margin=0.0),
     "prompt": [*user("Count."), *assistant("one"), *user("Go on.")]},
    {**pair("", "A", "A longer answer that goes on and on about uniforms", margin=2 / 3),
     "prompt": [{"role": "system", "content": "Be short."}, *user("Are uniforms good?")]},
]  # fmt: skip

# Each prompt once: KTO's mismatched completions must be of other prompts, which TRL does not see to.
LABELED = [
    {"prompt": row["prompt"], "completion": row["chosen" if i % 2 else "rejected"], "label": bool(i % 2)}
    for i, row in enumerate(PAIRS)
]

CASES = {  # our config
    "sigmoid": {"loss": "sigmoid", "beta": 0.3},
    "robust": {"loss": "robust", "beta": 0.3, "label_smoothing": 0.2},
    "hinge": {"loss": "hinge", "beta": 0.05},
    "ipo": {"loss": "ipo", "beta": 0.3},
    "nll": {"loss": "sigmoid", "beta": 0.3, "terms": {"nll_weight": 0.7}},
    "simpo": {"loss": "simpo", "beta": 2.0, "terms": {"target_margin": 0.5}},
    "simpo_smoothed": {"loss": "simpo", "beta": 2.0, "label_smoothing": 0.1, "terms": {"target_margin": 0.5}},
    "orpo": {"loss": "orpo", "beta": 0.4},
    "kto": {"loss": "kto", "beta": 0.3, "unpaired": {"desirable_weight": 1.5}},
}
SEED = 0  # of the mismatched completions


def make_models(folder: Path) -> Path:
    """A policy, and another one as its reference."""
    make_tiny_policy(folder / "policy", seed=0)
    make_tiny_policy(folder / "reference", seed=1)
    return folder


def pairs_of(name: str) -> list[dict]:
    """TRL averages the NLL over the tokens of a batch, we over pairs: on one pair the two are the same."""
    return PAIRS[:1] if name == "nll" else PAIRS


def ours(name: str, models: Path, folder: Path) -> Computed:
    config = build(PreferenceConfig, CASES[name])
    step = {"kto": our_kto, "orpo": our_orpo}.get(name, our_pairs)
    return step(name, config, models, folder)


def our_pairs(name: str, config: PreferenceConfig, models: Path, folder: Path) -> Computed:
    tokenizer, model = load_tokenizer(models / "policy"), load_policy(models / "policy")
    pairs, passes = encoded(tokenizer, pairs_of(name), folder), Passes(tokenizer.pad_token_id)
    reference = frozen_logprobs(load_policy(models / "reference"), paired.rows_of(pairs), passes).view(-1, 2)
    found = paired.accumulate(model, pairs, reference, torch.ones(len(pairs)), config, passes)
    return Computed(sorted_rows(paired.rows_of(pairs)), found[paired.loss_key(config.loss)], gradients(model))


def our_orpo(name: str, config: PreferenceConfig, models: Path, folder: Path) -> Computed:
    """TRL's negative log-likelihood counts the prompt's tokens too: our SFT loss on whole texts, our odds ratio."""
    tokenizer, model = load_tokenizer(models / "policy"), load_policy(models / "policy")
    pairs = encoded(tokenizer, PAIRS, folder)
    logprobs = paired.sequence_logprobs(model, paired.rows_of(pairs), Passes(tokenizer.pad_token_id)).view(-1, 2)
    odds = paired.preference_term(logprobs, None, paired.lengths_of(pairs, logprobs), config).mean()
    whole = [encode_row({"prompt": row["prompt"], "completion": row["chosen"]}, tokenizer, 256) for row in PAIRS]
    whole = [dialogue._replace(learn=[1] * len(dialogue.ids)) for dialogue in whole]
    nll = accumulate(model, whole, tokenizer.pad_token_id, micro_tokens=10**6)
    odds.backward()
    return Computed(sorted_rows(paired.rows_of(pairs)), nll + odds.item(), gradients(model))


def our_kto(name: str, config: PreferenceConfig, models: Path, folder: Path) -> Computed:
    tokenizer, model = load_tokenizer(models / "policy"), load_policy(models / "policy")
    examples = our_examples(tokenizer, config)
    rows = unpaired.rows_of(examples)
    reference = frozen_logprobs(load_policy(models / "reference"), rows, Passes(tokenizer.pad_token_id)).view(-1, 2)
    # TRL divides by the number of rows, not by their weights: a mean of ones, times weights
    weights = torch.tensor([e.weight for e in examples])
    found = unpaired.accumulate(model, examples, reference, weights, config, Passes(tokenizer.pad_token_id))
    scale = weights.mean().item()
    return Computed(sorted_rows(rows), found["loss"] * scale, gradients(model) * scale)


def our_examples(tokenizer, config: PreferenceConfig) -> list[unpaired.Example]:
    labeled = [
        unpaired.Labeled(row["prompt"], row["completion"][-1]["content"], row["label"], 1.0, "g") for row in LABELED
    ]
    return unpaired.encode_examples(tokenizer, labeled, config.unpaired, max_length=256, seed=SEED)[0]


def encoded(tokenizer, rows: list[dict], folder: Path):
    return encode_pairs(tokenizer, read_pairs(write_snapshot(folder, rows).path, "train"), 256)[0]


def sorted_rows(rows) -> list[list[list[int]]]:
    return sorted([list(row.prompt), list(row.completion)] for row in rows)
