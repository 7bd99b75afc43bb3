"""What a policy in training wrote to the same few prompts, step by step: samples.jsonl as the round page shows it."""

from pathlib import Path
from typing import NamedTuple

from labelapp.models import Stage
from labelapp.rounds.trainer import read_json

FILE = "samples.jsonl"
READ_BYTES = 1_000_000  # a stage writes a few kilobytes; of what is longer the end is not read
LONGEST = 2000  # characters of a text on the page


class Answer(NamedTuple):
    """One answer, after so many steps."""

    step: int
    text: str
    finished: bool


class Shown(NamedTuple):
    """One prompt and its answers, the newest first."""

    prompt: str
    answers: list[Answer]

    @property
    def newest(self) -> Answer:
        return self.answers[0]

    @property
    def first(self) -> Answer | None:
        """The answer before the training, once there is a newer one."""
        return self.answers[-1] if len(self.answers) > 1 else None

    @property
    def between(self) -> list[Answer]:
        return self.answers[1:-1]


def shown_samples(stage: Stage) -> list[Shown]:
    """Nothing where the stage's latest attempt has written none; lines that cannot be read are left out."""
    if not shown_bytes(stage):
        return []
    with open(Path(stage.output) / FILE, "rb") as stream:
        lines = stream.read(READ_BYTES).decode(errors="replace").splitlines()
    found: dict[str, list[Answer]] = {}
    for step, sample in (pair for line in lines for pair in samples_of(line)):
        answer = Answer(step, cut(sample["completion"]), sample["finished"])
        found.setdefault(cut(sample["prompt"]), []).insert(0, answer)
    return [Shown(prompt, answers) for prompt, answers in found.items()]


def shown_bytes(stage: Stage) -> int:
    """How much the stage's latest attempt has written."""
    path = Path(stage.output) / FILE
    return path.stat().st_size if stage.output and path.is_file() else 0


def samples_of(line: str) -> list[tuple[int, dict]]:
    try:
        row = read_json(line)
        found = [(row["step"], {"prompt": str(each["prompt"]), "completion": str(each["completion"]),
                                "finished": bool(each["finished"])}) for each in row["samples"]]  # fmt: skip
    except (ValueError, LookupError, TypeError):
        return []
    return [(step, sample) for step, sample in found if isinstance(step, int)]


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
