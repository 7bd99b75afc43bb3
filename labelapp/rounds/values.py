"""The kept values of two versions' measurements, item by item, and which of them can be paired."""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from alignment.manifest import ArtifactError, file_sha256
from labelapp.models import Audit, Stage, Version
from labelapp.storage import file_if_at_hand

OF_THE_PARENT = {"win_rate", "reward_gain"}  # they say how far a policy is from its own parent
SAME = ("temperature", "max_new_tokens", "max_length")  # settings under which two runs measure the same thing


class Value(NamedTuple):
    """A figure's value on one item, and that of the arm beside it."""

    group: str
    value: float
    other: float | None
    against: str


class Pairs(NamedTuple):
    """Candidate and champion on the same items; or why not, in words."""

    candidate: list[float]
    champion: list[float]
    groups: list[str]
    why_not: str = ""


Values = dict[str, dict[str, Value]]  # by figure and item


def nothing(why: str) -> Pairs:
    return Pairs([], [], [], why)


def kept_values(audit: Audit) -> Values:
    """The values behind an audit's means; none where its stage kept none, or the file is not what it was."""
    said = (audit.stage.result or {}).get("values")
    if not said:
        return {}
    try:
        return read_values(file_if_at_hand(Path(audit.result_path).parent / said["file"]), said["sha256"])
    except (OSError, ArtifactError):
        return {}


def read_values(path: Path, sha256: str) -> Values:
    """Raises OSError, and ArtifactError where the file is not the one that was cited."""
    if file_sha256(path) != sha256:
        raise ArtifactError(f"{path} is not as it was written")
    return parsed_values(path, sha256)


@lru_cache(maxsize=16)  # each figure asks again; the digest was checked by whoever calls
def parsed_values(path: Path, sha256: str) -> Values:
    found: Values = {}
    with open(path, encoding="utf-8") as rows:
        for row in map(json.loads, rows):
            items = found.setdefault(row["metric"], {})
            name = f"{row['item']} {len(items)}" if row["item"] in items else row["item"]  # twice counts twice
            items[name] = Value(row["group"], row["value"], row["other"], row["against"])
    return found


def pair_up(key: str, audit: Audit, candidate: Version, champion: Version, theirs: list[Audit]) -> Pairs:
    """The figure of both versions on the same items: as the candidate's own stage measured them, else from two runs.

    theirs: the champion's audits, those to go by first.
    """
    mine = kept_values(audit).get(key, {})
    if not mine:
        return nothing("its values were not kept item by item")
    beside = {item: it for item, it in mine.items() if it.other is not None}
    if beside and is_champion(audit.stage, next(iter(beside.values())).against, candidate, champion):
        return Pairs([it.value for it in beside.values()], [it.other for it in beside.values()],
                     [it.group for it in beside.values()])  # fmt: skip
    if key in OF_THE_PARENT:
        return nothing(f"it was measured against {candidate.parent}, and {champion} answers now")
    return from_two_runs(key, audit, mine, champion, theirs)


def from_two_runs(key: str, audit: Audit, mine: dict[str, Value], champion: Version, theirs: list[Audit]) -> Pairs:
    for other in theirs:
        values = kept_values(other).get(key, {})
        if not values:
            continue
        if differing := [name for name in SAME if config_of(audit).get(name) != config_of(other).get(name)]:
            return nothing(f"{champion} was measured with another {differing[0]}")
        both = [item for item in mine if item in values]
        if not both:
            return nothing(f"no item of it was asked of {champion} too")
        return Pairs([mine[i].value for i in both], [values[i].value for i in both], [mine[i].group for i in both])
    return nothing(f"its values of {champion} were not kept item by item")


def config_of(audit: Audit) -> dict:
    return audit.stage.job.get("config") or {}


def is_champion(stage: Stage, name: str, candidate: Version, champion: Version) -> bool:
    """Whether what the stage measured beside the candidate is the champion, or the reward model of its round."""
    specs = stage.round.recipe["stages"]
    given = next((spec.get("inputs", {}).get(name, "") for spec in specs if spec["name"] == stage.name), "")
    if given == "parent":
        return stage.round.parent_id == champion.pk
    kind, _, key = given.partition(":")
    if kind != "version":
        return False
    if int(key) == champion.pk:
        return True
    return champion.round_id is not None and Version.objects.filter(pk=key, round=champion.round_id).exists()
