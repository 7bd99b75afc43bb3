"""What a round does: a preset with a person's changes, checked by the trainer's own dataclasses."""

import json
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from alignment.config import CONFIGS, SHARDED, JobError, build, require_devices
from labelapp.rounds.presets import PRESETS

MITIGATED = {"counterfactual_weight": 10.0}
BASELINE = {"counterfactual_weight": 0.0}
WRITTEN = "file:"  # what a value begins with that is a file of an earlier stage
FILES = {  # config values that name files of the server, which hold other projects' data too
    "bbq_items", "completions", "gold_points", "groups_file", "held_out_rows", "held_out_text", "prompts",
    "reference_cache", "refusal_prompts", "reward_bench", "rows", "text", "weights_file",
}  # fmt: skip
SERVER = "server"  # the group that names a server, which a trainer sends its weights to, and a folder for them


class OptionRefused(ValueError):
    """A config value is out of its range. `option` is its path, empty where none can be named."""

    def __init__(self, option: str, sentence: str):
        super().__init__(sentence)
        self.option = option


def plan_stages(recipe: str, *, mitigation: bool = False, changes: dict[str, Any] | None = None) -> list[dict]:
    """The stage specs of a recipe with a person's changes. Raises OptionRefused with a sentence."""
    if recipe not in PRESETS:
        raise OptionRefused("recipe", f"There is no recipe {recipe!r}; choose one of {', '.join(PRESETS)}.")
    stages = deepcopy(PRESETS[recipe].stages)
    for path, value in (changes or {}).items():
        change(stages, path, value)
    stages = with_baseline_arm(stages) if mitigation else [without_penalty(spec) for spec in stages]
    for number, spec in enumerate(stages):
        check(spec, changes or {})
        refuse_unmade_files(spec, [earlier["name"] for earlier in stages[:number]])
    return stages


def read_settings(text: str) -> dict[str, Any]:
    """Changes as a page takes them, one PATH=VALUE a line. Raises OptionRefused, for whatever names a file too."""
    changes = read_changes(line for line in text.splitlines() if line.strip())
    for path, value in changes.items():
        if name := named_file(path.split(".")[-1], value):
            raise OptionRefused(path, f"{name} names a file of the server: only manage.py launch --set may do that.")
        if SERVER in path.split(".") or names_server(value):
            raise OptionRefused(path, "A server gets the weights: only manage.py launch --set may name one.")
    return changes


def names_server(value: Any) -> bool:
    """Whether a value holds the settings of a server, at any depth."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return (isinstance(value, dict) and SERVER in value) or any(names_server(each) for each in inner)


def named_file(key: str, value: Any) -> str:
    """The setting in a value, at any depth, that names a file; empty where none does: sampling.prompts is a number."""
    if isinstance(value, dict):
        return next(filter(None, (named_file(inner, each) for inner, each in value.items())), "")
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        return next(filter(None, (named_file(key, each) for each in value)), "")
    return key if key in FILES and isinstance(value, str | list) else ""


def read_changes(lines: Iterable[str]) -> dict[str, Any]:
    """{"preference.beta": 0.2} from lines such as "preference.beta=0.2"; a value is JSON, or else a word.

    Raises OptionRefused.
    """
    found = {}
    for line in lines:
        path, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            raise OptionRefused("", f"{line!r} is no PATH=VALUE, such as preference.beta=0.2.")
        try:
            found[path] = json.loads(value)
        except ValueError:
            found[path] = value
    return found


def change(stages: list[dict], path: str, value: Any) -> None:
    """Set one config value, such as "preference.optimization.epochs", in every stage of that kind.

    "preference.devices" is no config value: on how many devices a stage trains changes nothing that it learns.
    """
    stage, *keys = path.split(".")
    chosen = [spec for spec in stages if spec["stage"] == stage]
    if not chosen or not keys:
        known = ", ".join(dict.fromkeys(spec["stage"] for spec in stages))
        raise OptionRefused(path, f"{path!r} names no setting: begin with one of {known}, as in preference.beta.")
    for spec in chosen:
        if keys == ["devices"]:
            spec["devices"] = value
            continue
        place = spec["config"]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value


def devices_of(spec: dict, held: int = 1) -> int:
    """On how many devices a stage runs: as its settings say, else, where it trains, on all that the round holds."""
    return spec.get("devices") or (held if spec["stage"] in SHARDED else 1)


def with_baseline_arm(stages: list[dict]) -> list[dict]:
    """The same reward model twice, penalty off and on, with the same seed and data; the evaluation compares them."""
    planned = []
    for spec in stages:
        if spec["stage"] == "reward":
            planned.append({**without_penalty(spec), "name": f"{spec['name']}_baseline"})
            spec = {**spec, "config": MITIGATED | spec["config"]}
        if spec["stage"] == "evaluate":
            spec = {**spec, "inputs": spec["inputs"] | {"reward_baseline": "stage:reward_baseline"}}
        if spec["stage"] == "audit" and "reward" in spec["inputs"]:
            spec = {**spec, "inputs": spec["inputs"] | {"reward_champion": "stage:reward_baseline"}}
        planned.append(spec)
    return planned


def without_penalty(spec: dict) -> dict:
    return {**spec, "config": spec["config"] | BASELINE} if spec["stage"] == "reward" else spec


def check(spec: dict, changes: dict[str, Any]) -> None:
    """Ask alignment's own dataclass whether it takes the config; name the option that it refuses."""
    try:
        require_devices(spec["stage"], spec.get("devices", 1))
        require_devices(spec["stage"], devices_of(spec), build(CONFIGS[spec["stage"]], spec["config"]))
    except JobError as error:
        mine = [path for path in changes if path.split(".")[0] == spec["stage"]]
        named = [path for path in mine if path.split(".")[-1] in str(error)]
        raise OptionRefused(next(iter(named), ""), f"{spec['stage']}: {error}") from error


def refuse_unmade_files(spec: dict, earlier: list[str]) -> None:
    """Raise OptionRefused for a value "file:NAME/FILE" unless an earlier stage of the recipe has that name."""
    for key, value in spec["config"].items():
        if isinstance(value, str) and value.startswith(WRITTEN):
            name, _, file = value.removeprefix(WRITTEN).partition("/")
            if name not in earlier or not file:
                known = f"one of {', '.join(earlier)}" if earlier else "there, but none is"
                sentence = f"{value!r} names no file of an earlier stage: write file:STAGE/FILE, STAGE being {known}."
                raise OptionRefused(f"{spec['stage']}.{key}", sentence)


def default_of(path: str, recipe: str) -> Any:
    """The value a recipe uses when a person changes nothing; the stage's own default where the recipe is silent."""
    stage, *keys = path.split(".")
    spec = next(spec for spec in PRESETS[recipe].stages if spec["stage"] == stage)
    if path == "reward.counterfactual_weight":
        return MITIGATED["counterfactual_weight"]
    value = build(CONFIGS[stage], spec["config"])
    for key in keys:
        value = getattr(value, key)
    return value
