"""Golden files: what TRL computed, a few kB each, so that every run of the tests compares with it and needs no TRL.

`python -m tests.alignment.golden.make_SUBJECT` writes SUBJECT.json with TRL from the dev extra; a test with TRL sees
that the file still says what TRL says. A file is {"made_with", "batches", "cases"}: the token ids of the rows as TRL's
own collator made them, and for each case the number of its batch, the loss, and the gradient's norm and fingerprint.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

HERE = Path(__file__).parent


class Computed(NamedTuple):
    """One step as one side computes it; the other side must agree."""

    rows: list  # token ids of the batch, sorted: padding and order are nobody's promise
    loss: float
    gradient: torch.Tensor  # of all parameters in the order of their names, shape (P,)


def gradients(model: torch.nn.Module) -> torch.Tensor:
    """(P,) the gradient of all parameters in the order of their names; 0 where there is none."""
    named = sorted((name, p) for name, p in model.named_parameters())
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for _, p in named])


def fingerprint(gradient: torch.Tensor) -> list[float]:
    """The gradient's products with eight fixed random directions of length 1: it is more than a norm."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(8, len(gradient), generator=generator)
    return (torch.nn.functional.normalize(directions, dim=1) @ gradient).tolist()


def save(subject: str, cases: dict[str, Computed]) -> None:
    """Write the file, a line a batch and a case."""
    batches: list[list] = []
    for found in cases.values():
        if found.rows not in batches:
            batches.append(found.rows)
    told = {
        name: {
            "batch": batches.index(found.rows),
            "loss": found.loss,
            "gradient_norm": found.gradient.norm().item(),
            "fingerprint": fingerprint(found.gradient),
        }
        for name, found in cases.items()
    }
    made_with = json.dumps({name: version(name) for name in ("trl", "torch", "transformers")})
    rows = ",\n".join(json.dumps(batch, separators=(",", ":")) for batch in batches)
    lines = ",\n".join(f'"{name}": {json.dumps(case)}' for name, case in told.items())
    text = f'{{"made_with": {made_with},\n"batches": [\n{rows}\n],\n"cases": {{\n{lines}\n}}}}\n'
    (HERE / f"{subject}.json").write_text(text)


def load(subject: str) -> dict[str, Any]:
    """{name: {"rows", "loss", "gradient_norm", "fingerprint"}}."""
    kept = json.loads((HERE / f"{subject}.json").read_text())
    return {name: {**case, "rows": kept["batches"][case["batch"]]} for name, case in kept["cases"].items()}


def assert_golden(ours: Computed, golden: dict[str, Any]) -> None:
    """The promise: the same tokens, 1e-5 in loss and 1e-4 of the gradient's norm."""
    assert ours.rows == golden["rows"]
    assert abs(ours.loss - golden["loss"]) <= 1e-5
    allowed = 1e-4 * golden["gradient_norm"]
    assert golden["gradient_norm"] > 0
    assert abs(ours.gradient.norm().item() - golden["gradient_norm"]) <= allowed
    difference = torch.tensor(fingerprint(ours.gradient)) - torch.tensor(golden["fingerprint"])
    assert difference.abs().max().item() <= allowed


def assert_equal(ours: Computed, theirs: Computed) -> None:
    """The same promise for the whole gradient, where both sides are at hand."""
    assert ours.rows == theirs.rows
    assert abs(ours.loss - theirs.loss) <= 1e-5
    assert theirs.gradient.norm() > 0
    assert (ours.gradient - theirs.gradient).norm() <= 1e-4 * theirs.gradient.norm()
