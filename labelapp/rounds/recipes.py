"""What a round does: presets as plain data, and the few numbers a person may change.

A stage spec is {"name", "stage", "config", "inputs"}. Inputs are symbols that the supervisor resolves to a path and a
digest: "snapshot", "parent", "stage:NAME" (the checkpoint of an earlier stage) or "version:PK".
"""

from copy import deepcopy
from typing import Any

from alignment.config import CONFIGS, JobError, build

MITIGATED = {"counterfactual_weight": 10.0}
BASELINE = {"counterfactual_weight": 0.0}

PRESETS = {
    "reward-dpo": {
        "title": "Reward model, then DPO",
        "about": "Trains a reward model on the judgments, improves the policy on them by DPO, measures both.",
        "stages": [
            {
                "name": "reward",
                "stage": "reward",
                "config": {"optimization": {"learning_rate": 3e-4, "epochs": 1}},
                "inputs": {"snapshot": "snapshot", "parent": "parent"},
            },
            {
                "name": "preference",
                "stage": "preference",
                "config": {"beta": 0.1, "optimization": {"learning_rate": 3e-5, "epochs": 1}},
                "inputs": {"snapshot": "snapshot", "parent": "parent"},
            },
            {
                "name": "evaluate",
                "stage": "evaluate",
                "config": {"max_prompts": 128, "answers": 100},
                "inputs": {
                    "snapshot": "snapshot",
                    "reward": "stage:reward",
                    "policy": "stage:preference",
                    "parent": "parent",
                },
            },
        ],
    }
}

# What the launch form offers: the path of a config value, its label and a hint. The shell may set any path.
OPTIONS = {
    "reward.optimization.epochs": ("Reward model: epochs", "1 is usual: a second epoch tends to overfit"),
    "reward.optimization.learning_rate": ("Reward model: learning rate", ""),
    "preference.optimization.epochs": ("DPO: epochs", ""),
    "preference.optimization.learning_rate": ("DPO: learning rate", ""),
    "preference.beta": ("DPO: beta", "larger stays closer to the parent"),
    "reward.counterfactual_weight": ("Penalty weight", "used with the mitigation only"),
    "evaluate.max_prompts": ("Held-out prompts to sample", "fewer is faster, with wider intervals"),
}


class OptionRefused(ValueError):
    """A config value is out of its range. `option` is its path, empty where none can be named."""

    def __init__(self, option: str, sentence: str):
        super().__init__(sentence)
        self.option = option


def plan_stages(recipe: str, *, mitigation: bool = False, changes: dict[str, Any] | None = None) -> list[dict]:
    """The stage specs of a recipe with a person's changes. Raises OptionRefused with a sentence."""
    if recipe not in PRESETS:
        raise OptionRefused("recipe", f"There is no recipe {recipe!r}; choose one of {', '.join(PRESETS)}.")
    stages = deepcopy(PRESETS[recipe]["stages"])
    for path, value in (changes or {}).items():
        change(stages, path, value)
    stages = with_baseline_arm(stages) if mitigation else [without_penalty(spec) for spec in stages]
    for spec in stages:
        check(spec, changes or {})
    return stages


def change(stages: list[dict], path: str, value: Any) -> None:
    """Set one config value, such as "preference.optimization.epochs", in every stage of that kind."""
    stage, *keys = path.split(".")
    chosen = [spec for spec in stages if spec["stage"] == stage]
    if not chosen or not keys:
        known = ", ".join(dict.fromkeys(spec["stage"] for spec in stages))
        raise OptionRefused(path, f"{path!r} names no setting: begin with one of {known}, as in preference.beta.")
    for spec in chosen:
        place = spec["config"]
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value


def with_baseline_arm(stages: list[dict]) -> list[dict]:
    """The same reward model twice, penalty off and on, with the same seed and data; the evaluation compares them."""
    planned = []
    for spec in stages:
        if spec["stage"] == "reward":
            planned.append({**without_penalty(spec), "name": f"{spec['name']}_baseline"})
            spec = {**spec, "config": MITIGATED | spec["config"]}
        if spec["stage"] == "evaluate":
            spec = {**spec, "inputs": spec["inputs"] | {"reward_baseline": "stage:reward_baseline"}}
        planned.append(spec)
    return planned


def without_penalty(spec: dict) -> dict:
    return {**spec, "config": spec["config"] | BASELINE} if spec["stage"] == "reward" else spec


def check(spec: dict, changes: dict[str, Any]) -> None:
    """Ask alignment's own dataclass whether it takes the config; name the option that it refuses."""
    try:
        build(CONFIGS[spec["stage"]], spec["config"])
    except JobError as error:
        mine = [path for path in changes if path.split(".")[0] == spec["stage"]]
        named = [path for path in mine if path.split(".")[-1] in str(error)]
        raise OptionRefused(next(iter(named), ""), f"{spec['stage']}: {error}") from error


def default_of(path: str, recipe: str = "reward-dpo") -> Any:
    """The value a recipe uses when a person changes nothing; the stage's own default where the recipe is silent."""
    stage, *keys = path.split(".")
    spec = next(spec for spec in PRESETS[recipe]["stages"] if spec["stage"] == stage)
    if path == "reward.counterfactual_weight":
        return MITIGATED["counterfactual_weight"]
    value = build(CONFIGS[stage], spec["config"])
    for key in keys:
        value = getattr(value, key)
    return value
