"""What a stage reads, on the machine where it runs: artifacts and files that symbols of the recipe stand for."""

from pathlib import Path
from typing import Any

from alignment.config import Input
from alignment.manifest import ArtifactError, file_sha256
from labelapp import storage
from labelapp.models import Round, Stage, Version
from labelapp.rounds.failures import REMEDIES, StageFailed
from labelapp.rounds.recipes import WRITTEN


def resolve(round: Round, symbol: str) -> Input:
    """The directory and digest that an input's symbol stands for; see recipes.py."""
    kind, _, name = symbol.partition(":")
    if kind == "snapshot":
        return at_hand(round.snapshot.path, round.snapshot.digest)
    if kind == "parent":
        return at_hand(round.parent.path, round.parent.digest)
    if kind == "version":
        version = Version.objects.get(pk=name, project=round.project)
        return at_hand(version.path, version.digest)
    if kind == "stage":
        made = round.stages.get(name=name).result["checkpoint"]
        return at_hand(made["path"], made["sha256"])
    raise ValueError(f"no input is called {symbol!r}")


def at_hand(path: str, digest: str) -> Input:
    """The artifact on this machine. Raises StageFailed, StoreAway."""
    try:
        return Input(storage.at_hand(path, digest), digest)
    except ArtifactError as error:
        raise StageFailed("damaged", f"{error}. {REMEDIES['damaged']}") from error


def written(round: Round, value: Any) -> Any:
    """A config value; of "file:NAME/FILE" the path of the file that an earlier stage wrote. Raises StageFailed."""
    if not isinstance(value, str) or not value.startswith(WRITTEN):
        return brought(value) if isinstance(value, str) and value.startswith("/") else value
    name, _, file = value.removeprefix(WRITTEN).partition("/")
    made = round.stages.filter(name=name, state=Stage.State.DONE).first()
    path = Path(made.output if made else "") / file
    results = made.result.values() if made else ()
    facts = next((entry for entry in results if isinstance(entry, dict) and entry.get("path") == str(path)), None)
    if facts is None:
        raise StageFailed("bad_input", f"{value!r} names no file that an earlier stage wrote. {REMEDIES['bad_input']}")
    if not storage.file_at_hand(path).is_file() or file_sha256(path) != facts["sha256"]:
        raise StageFailed("damaged", f"{path}, which {name} wrote, is not as it was; launch the round again.")
    return str(path)


def brought(path: str) -> str:
    """A file that a setting names, from the bucket where only it has it. Raises StageFailed, StoreAway."""
    try:
        return str(storage.file_at_hand(path))
    except ArtifactError as error:
        raise StageFailed("damaged", f"{error}. {REMEDIES['damaged']}") from error
