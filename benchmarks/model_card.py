"""README.md of the demo's base model, written from its card.json."""

from __future__ import annotations

from typing import Any

INTRO = """# The demo's base model

A small Llama ({parameters:,} parameters, vocabulary {vocabulary:,}, context {context}) made from nothing by this
project's own `pretrain` and `sft` stages. It exists so that the demo can train, gate and serve something real on a CPU.
It writes the shape of English, not sense: read the samples below before you expect anything of it. It knows no facts,
follows no instruction but "Argue that ...", and repeats the prejudices of its sources; use it for this demo only.

## How well it predicts

Bits per byte on text that no stage has seen; lower is better. The 5-grams are interpolated Kneser-Ney models of the
same training text, over bytes and over this model's own tokens.

| held-out text | after pre-training | final weights | byte 5-gram | token 5-gram |
|---|--:|--:|--:|--:|
"""

RECIPE = """
Prose: passages of 40 paragraphs, every 25th, from the books it was trained on. Arguments: all of the test debates.
Fine-tuning costs accuracy on prose and is reported as it is. Answers of test debates given their prompts:
{answers:.3f} bits a byte.

## Recipe

    python3 manage.py bench demo_model --text public_domain_prose.txt.gz --arguments ukpconvarg1_full.jsonl.gz \\
        --output labelapp/demo/base_model --compile

* Pre-training: {pretrain}
* Fine-tuning on (prompt, argument) rows of the training debates: {sft}
* Tokens seen in pre-training: {tokens:,} ({steps:,} steps) of {unique:,} in the text.
* Wall seconds {wall:,}, CPU seconds {cpu:,}, on two shared cores; {libraries}.

## Sources and licences

* 14 books published before 1929, in the public domain in the United States (SHA-256 {prose}).
* UKPConvArg1 (Habernal and Gurevych 2016), CC-BY 4.0 (SHA-256 {arguments}): the arguments of the 11
  training debates only. No text of a test debate was used for the weights or the tokenizer.

The weights are Apache-2.0 like the project; credit UKPConvArg1 when you pass them on.

## 20 samples

Seeds 0 to 19, temperature {temperature}, top-p {top_p}, at most {max_new_tokens} tokens, uncurated, to prompts
that no stage has seen.
"""


def readme_of(card: dict[str, Any], *, vocabulary: int) -> str:
    """The whole page."""
    first, sample = card["pretraining"], card["samples"][0]
    config = first["config"]
    intro = INTRO.format(parameters=first["parameters"], vocabulary=vocabulary, context=config["context"])
    rows = zip(first["metrics"], card["final_bits_per_byte"], strict=True)
    recipe = RECIPE.format(
        answers=card["metrics"][0]["value"],
        pretrain=settings(config["optimization"], first["precision"]),
        sft=settings(card["config"]["optimization"], card["precision"]),
        tokens=first["tokens_seen"],
        steps=first["steps"],
        unique=first["tokens"],
        wall=card["wall_seconds"],
        cpu=card["cpu_seconds"],
        libraries=", ".join(f"{name} {version}" for name, version in first["libraries"].items()),
        prose=card["sources"]["prose"],
        arguments=card["sources"]["arguments"],
        **{name: sample[name] for name in ("temperature", "top_p", "max_new_tokens")},
    )
    return intro + "".join(figures(*row) for row in rows) + recipe + "".join(map(shown, card["samples"]))


def figures(before: dict[str, Any], after: dict[str, Any]) -> str:
    name = before["key"].partition(":")[2].removesuffix(".txt").replace("-", " ")
    base = before["baselines"]
    values = (before["value"], after["value"], base["byte_5gram"], base["token_5gram"])
    worse = " (below its baseline)" if min(base.values()) < after["value"] else ""
    return f"| {name}{worse} | " + " | ".join(f"{value:.3f}" for value in values) + " |\n"


def settings(plan: dict[str, Any], precision: str) -> str:
    return (
        f"{plan['epochs']} epochs, {plan['batch_size']} rows a step, peak learning rate {plan['learning_rate']}, "
        f"cosine, AdamW with weight decay {plan['weight_decay']}, {precision} products and fp32 weights."
    )


def shown(sample: dict[str, Any]) -> str:
    text = " ".join(sample["text"].split()) or "(nothing)"
    return f"\n**{sample['prompt']}** (seed {sample['seed']})\n\n> {text}\n"
