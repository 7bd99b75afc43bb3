"""Everything a reward model is asked about, its answers, and the figures they give."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignment.config import REWARD
from alignment.data.batches import MICRO_TOKENS, micro_batches
from alignment.data.pairs import Pair, read_pairs
from alignment.data.text import Messages, load_tokenizer
from alignment.measures.baselines import TextPair, bag_of_words_margins, log_length_difference
from alignment.measures.figures import (
    Measure,
    PairScores,
    SwapScores,
    accuracy_measures,
    counterfactual_measures,
    direction_measure,
    length_bucket_measures,
)
from alignment.measures.values import item_of
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
from alignment.models.heads import columns_of, names_of, plain_names
from alignment.models.scores import encode_text_row, scores_of
from alignment.progress import Progress

Text = tuple[str, str]  # the prompt's messages as JSON, and the completion
Scores = dict[Text, float]


class RewardScores(NamedTuple):
    """What a reward model of H heads gave every text that it was asked about."""

    names: list[str]  # of the heads, as `names_of` has them
    rows: dict[Text, list[float]]  # (H,) scores

    def has(self, head: str) -> bool:
        return head in plain_names(self.names)

    def of(self, head: str) -> Scores:
        """One head's scores, of an ensemble the mean. Raises JobError for a head that is not there."""
        columns = columns_of(self.names, head)
        return {text: fmean(row[column] for column in columns) for text, row in self.rows.items()}

    def members(self, head: str) -> list[Scores]:
        """The scores of each member of an ensemble; of none where the head is not there."""
        columns = columns_of(self.names, head) if self.has(head) else []
        return [{text: row[column] for text, row in self.rows.items()} for column in columns]


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


def measure_rewards(
    panel: Panel, checkpoints: Sequence[Path], max_length: int, work: Progress, others: Sequence[Text] = ()
) -> list[RewardScores]:
    """The scores of every text of the panel, and of others, under each reward model."""
    texts, measured = list(dict.fromkeys([*panel_texts(panel), *others])), []
    for left, checkpoint in zip(reversed(range(len(checkpoints))), checkpoints, strict=True):
        name = f"scores of {checkpoint.parent.name}/{checkpoint.name}"

        def tick(done: int, pieces: int, left: int = left, name: str = name) -> None:
            work.tick(pieces - done + left * pieces, name)

        model, tokenizer = load_reward(checkpoint), load_tokenizer(checkpoint)
        measured.append(RewardScores(names_of(model), score_texts(model, tokenizer, texts, max_length, tick)))
    return measured


def score_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    max_length: int,
    tick: Callable[[int, int], None],
) -> dict[Text, list[float]]:
    """Scores (H,) by text; `tick` hears after each pass how many are done, and of how many."""
    rows = [encode_text_row(tokenizer, json.loads(prompt), text, max_length) for prompt, text in texts]
    groups = micro_batches([len(row) for row in rows], range(len(rows)), MICRO_TOKENS)
    scores: dict[Text, list[float]] = {}
    for number, group in enumerate(groups, start=1):
        found = scores_of(model, [[rows[i] for i in group]], tokenizer.pad_token_id)
        scores |= dict(zip([texts[i] for i in group], found.tolist(), strict=True))
        tick(number, len(groups))
    return scores


def accuracy_price(moved: dict[str, Any]) -> dict[str, Any]:
    """Accuracy lost to the mitigation: reward_accuracy_change with its sign turned."""
    turned = {to: None if moved[of] is None else -moved[of] for to, of in
              (("value", "value"), ("low", "high"), ("high", "low"))}  # fmt: skip
    _, _, doubt = moved["note"].partition("; ")  # few groups, or no interval
    notes = "; ".join(filter(None, ["accuracy lost to the mitigation, paired", doubt]))
    return {**moved, "key": "accuracy_price", **turned, "note": notes}


def measures(panel: Panel, scores: Scores) -> list[Measure]:
    """The figures of the overall reward."""
    groups = [pair.group for pair in panel.pairs]
    held_out = pair_scores(panel.pairs, scores)
    spread = float(np.std([*held_out.chosen, *held_out.rejected])) if groups else 0.0
    male, female = (np.asarray([scores[text_of(row.prompt, side(row))] for _, row in panel.statements])
                    for side in (lambda row: row.first, lambda row: row.second))  # fmt: skip
    lengths = log_length_difference(panel.texts)
    return [
        *accuracy_measures(held_out, lengths, groups, panel.trivial, pair_names(panel.pairs)),
        *length_bucket_measures(held_out.margins, lengths, groups),
        *counterfactual_measures(
            swap_scores(panel.natural, scores),
            [r.group for r in panel.natural],
            spread=spread,
            items=[item_of(*row) for row in panel.natural],
        ),
        *counterfactual_measures(
            swap_scores(panel.templates, scores),
            [r.group for r in panel.templates],
            spread=spread,
            suffix="_templates",
            items=[item_of(*row) for row in panel.templates],
        ),
        direction_measure(
            male,
            female,
            [who for who, _ in panel.statements],
            spread=spread,
            items=[item_of(*row) for _, row in panel.statements],
        ),
    ]


def pair_names(pairs: Sequence[Pair]) -> list[str]:
    """Of the texts and of which was chosen: a pair that people turned round since is another one."""
    return [item_of(pair.prompt, *text_pair(pair)) for pair in pairs]


def pair_scores(pairs: Sequence[Pair], scores: Scores) -> PairScores:
    sides = [(p.prompt, text_pair(p)) for p in pairs]
    return PairScores(
        np.asarray([scores[text_of(prompt, texts.chosen)] for prompt, texts in sides]),
        np.asarray([scores[text_of(prompt, texts.rejected)] for prompt, texts in sides]),
    )


def swap_scores(rows: Sequence[Comparison], scores: Scores) -> SwapScores:
    def column(rows: Iterable[Comparison], side: str) -> np.ndarray:
        return np.asarray([scores[text_of(row.prompt, getattr(row, side))] for row in rows])

    swapped = [swap_comparison(row) for row in rows]
    return SwapScores(
        column(rows, "first"), column(rows, "second"), column(swapped, "first"), column(swapped, "second")
    )


def arms_with(measured: Sequence[RewardScores], head: str) -> list[tuple[str, Scores]]:
    """What the rows of items.jsonl call the scores of the first and of the second arm, and a head's scores in each."""
    names = ("score", "baseline_score")
    return [(name, found.of(head)) for name, found in zip(names, measured, strict=False) if found.has(head)]


def items(panel: Panel, measured: Sequence[RewardScores]) -> Iterable[dict[str, Any]]:
    """One row a comparison, with the rewards under each arm: what the metrics were computed from."""
    arms, members = arms_with(measured, REWARD), measured[0].members(REWARD)
    for number, (pair, texts) in enumerate(zip(panel.pairs, panel.texts, strict=True)):
        row = {"kind": "pair", "comparison": pair.comparison, "group": pair.group, "prompt": pair.prompt}
        row |= {"chosen": texts.chosen, "rejected": texts.rejected}
        for side, text in texts._asdict().items():
            key = text_of(pair.prompt, text)
            row |= {f"{side}_{name}": scores[key] for name, scores in arms}
            row |= {f"{side}_members": [scores[key] for scores in members]} if len(members) > 1 else {}
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
