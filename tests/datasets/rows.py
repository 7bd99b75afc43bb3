"""Files as tests give them to the import."""

import io
import json

from labelapp.datasets.actions import import_preferences
from labelapp.datasets.report import Report

OPTIONS = ("Trains are comfortable.", "Trains are quick.")


def as_file(*rows: dict | str | bytes) -> io.BytesIO:
    """Rows as lines: objects become JSON, text and bytes stay as they are."""
    return io.BytesIO(b"\n".join(_line(row) for row in rows) + b"\n")


def _line(row) -> bytes:
    return row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()


def pair(prompt: str = "Argue for trains.", chosen: str = OPTIONS[0], rejected: str = OPTIONS[1], **more) -> dict:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def take(project, *rows, source: str = "test.jsonl", **options) -> Report:
    return import_preferences(project=project, stream=as_file(*rows), source=source, **options)


def vote(project, winners: str, *, group: str, prompt: str = "", strength: int | None = None) -> None:
    """One pair in a group, judged by one person a letter: a (first better), b, e (tie), x (both bad)."""
    prompt = prompt or f"Argue for {group}."
    answers = {
        "a": {"ranking": [[0], [1]], "strength": strength and -strength},
        "b": {"ranking": [[1], [0]], "strength": strength},
        "e": {"ranking": [[0, 1]]},
        "x": {"both_bad": True},
    }
    completions = [f"{group}: the first way.", f"{group}: the second and longer way."]
    take(
        project,
        *(
            {"prompt": prompt, "completions": completions, "group": group, "annotator": f"p{n}", **answers[letter]}
            for n, letter in enumerate(winners)
        ),
    )
