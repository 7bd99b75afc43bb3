"""TRAINING_LAUNCHER: the words that bring a trainer's command to where it runs."""

import shlex
from pathlib import Path

WORDS, QUOTED = "{command}", "{quoted}"
JOINS_WORDS = {"ssh"}  # hand what they are given to a shell, as one line


def read_launcher(template: str) -> list[str]:
    """The words of a template such as `ssh host {command}`; none for "local". Raises ValueError with a sentence."""
    if template.strip() in ("", "local"):
        return []
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise ValueError(f"TRAINING_LAUNCHER {template!r} cannot be read: {error}; close every quote.") from error
    if sum(words.count(place) for place in (WORDS, QUOTED)) != 1 or words[0] in (WORDS, QUOTED):
        raise ValueError(
            f"TRAINING_LAUNCHER {template!r} must be a program and, as a word of its own, once {WORDS} (its words as "
            f"they are) or {QUOTED} (one word for a shell), such as: srun --gpus=1 {WORDS}"
        )
    return words


def launched(words: list[str], command: list[str]) -> list[str]:
    """The launcher's words with the command in its place, quoted where a shell will read it."""
    place = words.index(WORDS if WORDS in words else QUOTED)
    quoted = words[place] == QUOTED or Path(words[0]).name in JOINS_WORDS
    return [*words[:place], *([shlex.join(command)] if quoted else command), *words[place + 1 :]]
