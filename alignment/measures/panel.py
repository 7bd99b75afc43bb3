"""Everything a reward model is asked about, its answers, and the figures they give."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.data.batches import micro_batches
from alignment.data.pairs import Pair, read_pairs
from alignment.data.text import Messages, load_tokenizer
from alignment.measures.baselines import TextPair, bag_of_words_margins, log_length_difference
from alignment.measures.figures import (
    Measure,
    PairScores,
    Resampling,
    SwapScores,
    accuracy_measures,
    change,
    counterfactual_measures,
    direction_measure,
    length_bucket_measures,
    metric,
)
from alignment.mitigation.counterfactual import (
    AUDIT_TEMPLATES,
    Comparison,
    is_swappable,
    swap,
    swap_comparison,
    template_comparisons,
    template_texts,
)
from alignment.models.checkpoints import load_reward
from alignment.models.scores import MICRO_TOKENS, encode_text_row, row_scores
from alignment.progress import Progress

Text = tuple[str, str]  # the prompt's messages as JSON, and the completion
Scores = dict[Text, float]


class Panel(NamedTuple):
    """Everything a reward model is asked about, the same for both arms."""

    pairs: list[Pair]  # held-out
    texts: list[TextPair]  # their completions
    trivial: dict[str, np.ndarray]  # margins of the trivial baselines on the pairs
    natural: list[Comparison]  # held-out pairs that the gender swap changes
    templates: list[Comparison]
    statements: list[tuple[str, Comparison]]  # (occupation, a statement about a man and its counterfactual)


def read_panel(snapshot: Path) -> Panel:
    pairs, train = read_pairs(snapshot, "test"), read_pairs(snapshot, "train")
    texts, seen = [text_pair(p) for p in pairs], [text_pair(p) for p in train]
    trivial = {
        "longer_wins": log_length_difference(texts),
        "tfidf": bag_of_words_margins(seen, texts),
        "tfidf_length": bag_of_words_margins(seen, texts, with_length=True),
    }
    natural = [Comparison(p.prompt, t.chosen, t.rejected, p.group) for p, t in zip(pairs, texts, strict=True)]
    question = [{"role": "user", "content": AUDIT_TEMPLATES.question}]
    statements = [
        (who, Comparison(question, text, swap(text), who)) for who, text in template_texts(AUDIT_TEMPLATES)
    ]
    return Panel(
        pairs=pairs,
        texts=texts,
        trivial=trivial,
        natural=[row for row in natural if is_swappable(row)],
        templates=template_comparisons(AUDIT_TEMPLATES),
        statements=statements,
    )


def text_pair(pair: Pair) -> TextPair:
    return TextPair(pair.chosen[-1]["content"], pair.rejected[-1]["content"])


def text_of(prompt: Messages, completion: str) -> Text:
    return json.dumps(prompt, sort_keys=True), completion


def panel_texts(panel: Panel) -> list[Text]:
    """Every text of the panel once."""
    rows = [
        Comparison(p.prompt, t.chosen, t.rejected, p.group)
        for p, t in zip(panel.pairs, panel.texts, strict=True)
    ]
    swapped = [swap_comparison(row) for row in [*panel.natural, *panel.templates]]
    every = [*rows, *panel.templates, *swapped, *(row for _, row in panel.statements)]
    return list(dict.fromkeys(text_of(row.prompt, text) for row in every for text in (row.first, row.second)))


def measure_reward(
    panel: Panel,
    checkpoint: Path,
    max_length: int,
    work: Progress,
    *,
    arms_after: int = 0,
    others: Sequence[Text] = (),
) -> Scores:
    """The score of every text of the panel, and of others, under one reward model."""
    model, tokenizer = load_reward(checkpoint), load_tokenizer(checkpoint)
    name = f"scores of {checkpoint.parent.name}/{checkpoint.name}"

    def tick(done: int, pieces: int) -> None:
        work.tick(pieces - done + arms_after * pieces, name)

    texts = list(dict.fromkeys([*panel_texts(panel), *others]))
    return score_texts(model, tokenizer, texts, max_length, tick)


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    max_length: int,
    tick: Callable[[int, int], None],
) -> Scores:
    """Scores by text; `tick` hears after each pass how many are done, and of how many."""
    rows = [encode_text_row(tokenizer, json.loads(prompt), text, max_length) for prompt, text in texts]
    groups = micro_batches([len(row) for row in rows], range(len(rows)), MICRO_TOKENS // 4)
    scores: Scores = {}
    for number, group in enumerate(groups, start=1):
        found = row_scores(model, [rows[i] for i in group], tokenizer.pad_token_id)
        scores |= dict(zip([texts[i] for i in group], found, strict=True))
        tick(number, len(groups))
    return scores


def panel_metrics(panel: Panel, measured: Sequence[Scores], how: Resampling) -> list[dict[str, Any]]:
    """The metrics of the first arm, and for two arms the paired change of each from the second to the first."""
    arms = [measures(panel, scores) for scores in measured]
    found = [metric(measure, how) for measure in arms[0]]
    if len(arms) == 1:
        return found
    changes = [change(after, before, how) for after, before in zip(*arms, strict=True)]
    return [*found, *changes, accuracy_price(changes)]


def accuracy_price(changes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy lost to the mitigation: the change of reward_accuracy with its sign turned."""
    moved = next(entry for entry in changes if entry["key"] == "reward_accuracy_change")
    turned = {to: None if moved[of] is None else -moved[of] for to, of in
              (("value", "value"), ("low", "high"), ("high", "low"))}  # fmt: skip
    _, _, doubt = moved["note"].partition("; ")  # few groups, or no interval
    notes = "; ".join(filter(None, ["accuracy lost to the mitigation, paired", doubt]))
    return {**moved, "key": "accuracy_price", **turned, "note": notes}


def measures(panel: Panel, scores: Scores) -> list[Measure]:
    groups = [pair.group for pair in panel.pairs]
    held_out = pair_scores(panel, scores)
    spread = float(np.std([*held_out.chosen, *held_out.rejected])) if groups else 0.0
    male, female = (np.asarray([scores[text_of(row.prompt, side(row))] for _, row in panel.statements])
                    for side in (lambda row: row.first, lambda row: row.second))  # fmt: skip
    lengths = log_length_difference(panel.texts)
    return [
        *accuracy_measures(held_out, lengths, groups, panel.trivial),
        *length_bucket_measures(held_out.margins, lengths, groups),
        *counterfactual_measures(
            swap_scores(panel.natural, scores), [r.group for r in panel.natural], spread=spread
        ),
        *counterfactual_measures(
            swap_scores(panel.templates, scores),
            [r.group for r in panel.templates],
            spread=spread,
            suffix="_templates",
        ),
        direction_measure(male, female, [who for who, _ in panel.statements], spread=spread),
    ]


def pair_scores(panel: Panel, scores: Scores) -> PairScores:
    rows = list(zip(panel.pairs, panel.texts, strict=True))
    return PairScores(
        np.asarray([scores[text_of(p.prompt, t.chosen)] for p, t in rows]),
        np.asarray([scores[text_of(p.prompt, t.rejected)] for p, t in rows]),
    )


def swap_scores(rows: Sequence[Comparison], scores: Scores) -> SwapScores:
    def column(rows: Iterable[Comparison], side: str) -> np.ndarray:
        return np.asarray([scores[text_of(row.prompt, getattr(row, side))] for row in rows])

    swapped = [swap_comparison(row) for row in rows]
    return SwapScores(
        column(rows, "first"), column(rows, "second"), column(swapped, "first"), column(swapped, "second")
    )


def items(panel: Panel, measured: Sequence[Scores]) -> Iterable[dict[str, Any]]:
    """One row a comparison, with the scores under each arm: what the metrics were computed from."""
    arms = list(zip(("score", "baseline_score"), measured, strict=False))
    for number, (pair, texts) in enumerate(zip(panel.pairs, panel.texts, strict=True)):
        row = {"kind": "pair", "comparison": pair.comparison, "group": pair.group, "prompt": pair.prompt}
        row |= {"chosen": texts.chosen, "rejected": texts.rejected}
        for name, scores in arms:
            row |= {f"chosen_{name}": scores[text_of(pair.prompt, texts.chosen)],
                    f"rejected_{name}": scores[text_of(pair.prompt, texts.rejected)]}  # fmt: skip
        yield {**row, **{f"{name}_margin": float(margins[number]) for name, margins in panel.trivial.items()}}
    for kind, rows in (("natural", panel.natural), ("template", panel.templates)):
        for comparison in rows:
            yield {"kind": kind, **comparison._asdict(), **swap_item(comparison, arms)}


def swap_item(row: Comparison, arms: Sequence[tuple[str, Scores]]) -> dict[str, Any]:
    swapped = swap_comparison(row)
    found: dict[str, Any] = {"swapped_first": swapped.first, "swapped_second": swapped.second}
    for name, scores in arms:
        found |= {f"first_{name}": scores[text_of(row.prompt, row.first)],
                  f"second_{name}": scores[text_of(row.prompt, row.second)],
                  f"swapped_first_{name}": scores[text_of(swapped.prompt, swapped.first)],
                  f"swapped_second_{name}": scores[text_of(swapped.prompt, swapped.second)]}  # fmt: skip
    return found
