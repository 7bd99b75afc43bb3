"""Texts beside their counterfactuals, as a reward model scores them, and which of them a step draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from alignment.data.text import Messages
from alignment.mitigation.counterfactual import TRAIN_TEMPLATES, swap, template_texts
from alignment.models.scores import Unit, encode_text_row
from alignment.objectives.examples import Judged


def counterfactual_pool(
    tokenizer: PreTrainedTokenizerBase, comparisons: Sequence[Judged], max_length: int
) -> tuple[list[Unit], list[Unit]]:
    """(natural, templates): texts of the training comparisons that the swap changes, and the training templates."""
    texts = {
        (_key(comparison.prompt), text[-1]["content"]): comparison.prompt
        for comparison in comparisons
        for text in comparison.texts
    }
    natural = [_counterfactual(tokenizer, prompt, text, max_length) for (_, text), prompt in texts.items()]
    question = [{"role": "user", "content": TRAIN_TEMPLATES.question}]
    templates = [
        _counterfactual(tokenizer, question, text, max_length) for _, text in template_texts(TRAIN_TEMPLATES)
    ]
    return [u for u in natural if u[0] != u[1]], templates


def _key(prompt: Messages) -> str:
    return "\n".join(message["content"] for message in prompt)


def _counterfactual(tokenizer: PreTrainedTokenizerBase, prompt: Messages, text: str, max_length: int) -> Unit:
    swapped = [{**message, "content": swap(message["content"])} for message in prompt]
    return encode_text_row(tokenizer, prompt, text, max_length), encode_text_row(
        tokenizer, swapped, swap(text), max_length
    )


def draw_counterfactuals(
    natural: Sequence[Unit], templates: Sequence[Unit], *, count: int, seed: int, step: int
) -> list[Unit]:
    """Half natural texts (where there are any) and half templates: a pure function of the seed and the step.

    At most `count`: a large batch takes every template once.
    """
    generator = np.random.default_rng([seed, step, 1])
    from_data = min(count // 2, len(natural))
    picked = (
        [natural[i] for i in generator.choice(len(natural), from_data, replace=False)] if from_data else []
    )
    from_templates = min(count - from_data, len(templates))
    return picked + [templates[i] for i in generator.choice(len(templates), from_templates, replace=False)]
