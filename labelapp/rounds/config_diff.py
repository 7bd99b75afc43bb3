"""What was set differently in rounds that stand side by side."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from alignment.config import CONFIGS, build
from labelapp.models import Round, Version

ABSENT = "–"


class Setting(NamedTuple):
    """What one round says, in words."""

    round: int
    text: str


class Difference(NamedTuple):
    """One setting that is not the same everywhere, of each round in their order."""

    path: str
    values: list[Setting]


def differences(rounds: list[Round]) -> list[Difference]:
    """Only the paths whose values differ, what a round starts from first, then its stages in order."""
    flat = [(round.number, {**start_of(round), **settings_of(round)}) for round in rounds]
    paths = dict.fromkeys(path for _, each in flat for path in each)
    rows = [
        Difference(path, [Setting(n, shown(each.get(path, ABSENT))) for n, each in flat])
        for path in paths
    ]
    return [row for row in rows if len({value.text for value in row.values}) > 1]


def start_of(round: Round) -> dict[str, Any]:
    version = round.recipe_version
    return {
        "recipe": f"{version.recipe.name} v{version.number}" if version else round.recipe.get("title", ABSENT),
        "snapshot": str(round.snapshot or ABSENT),
        "parent": str(round.parent or ABSENT),
        "seed": round.seed,
        "counterfactual penalty": round.mitigation,
    }


def settings_of(round: Round) -> dict[str, Any]:
    """{"preference.optimization.epochs": 1, ...} with the trainer's defaults; what a stage reads as "stage ← input"."""
    found: dict[str, Any] = {}
    for spec in round.recipe["stages"]:
        found |= flattened(complete(spec), spec["name"])
        found |= {f"{spec['name']} ← {name}": named(source) for name, source in spec["inputs"].items()}
    return found


def named(source: str) -> str:
    """An input as a person knows it: a version by its name."""
    key = source.removeprefix("version:")
    version = Version.objects.filter(pk=int(key)).first() if key != source and key.isdecimal() else None
    return version.name if version else source


def complete(spec: dict[str, Any]) -> dict[str, Any]:
    """The config with every default; as it was stored where today's trainer no longer takes it."""
    try:
        return asdict(build(CONFIGS[spec["stage"]], spec["config"]))
    except (ValueError, KeyError):
        return spec["config"]


def flattened(config: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flattened(value, f"{path}.{key}") if isinstance(value, dict) else {f"{path}.{key}": value}
    return found


def shown(value: Any) -> str:
    """A value in words; of a path of the server only the file's name."""
    if isinstance(value, str):
        return Path(value).name if value.startswith("/") else value
    return json.dumps(value, ensure_ascii=False, default=str)
