"""What a round starts from, as small as it gets: a random policy, a dozen pairs, and rows that cite them."""

import json
from functools import cache
from pathlib import Path

from django.conf import settings

from alignment.manifest import write_manifest
from labelapp.models import Project, Round, Snapshot, Version
from labelapp.rounds.actions import queue_round
from tests.factories import make_version

GOOD = "Books are good because people think while they read them."
BAD = "No."
TOPICS = ["books", "schools", "uniforms", "trains", "gardens", "cities", "rivers", "music"]
TINY = {"batch_size": 4, "checkpoint_every": 2}


@cache
def policy_files() -> tuple[str, str]:
    """(path, digest) of a random policy, made once a test session."""
    from tests.tiny_models import make_tiny_policy

    path = settings.ARTIFACT_DIR / "tiny-policy"
    return str(path), make_tiny_policy(path)


@cache
def snapshot_files(name: str = "good") -> tuple[str, str]:
    """(path, digest) of a frozen data set; "broken" lacks a chosen answer, "infinite" has a margin that no
    float32 holds, "safety" has safety labels."""
    path = settings.ARTIFACT_DIR / f"snapshot-{name}"
    path.mkdir(parents=True)
    pairs = [pair(topic, number) for topic in TOPICS for number in range(4)]
    if name == "broken":
        del pairs[3]["chosen"]
    if name == "infinite":
        pairs[3]["margin"] = 1e300
    write_rows(path / "pairs-train.jsonl", pairs[:24])
    write_rows(path / "pairs-test.jsonl", pairs[24:])
    write_rows(path / "judgments.jsonl", [judgment(each) for each in pairs[:24]] if name == "safety" else [])
    return str(path), write_manifest(path, kind="snapshot")


def pair(topic: str, number: int) -> dict:
    chosen, rejected = f"{GOOD} He knows {topic} number {number}.", BAD
    return {
        "prompt": [{"role": "user", "content": f"Argue that {topic} are better than television, {number}."}],
        "chosen": [{"role": "assistant", "content": chosen if number % 2 else rejected}],
        "rejected": [{"role": "assistant", "content": rejected if number % 2 else chosen}],
        "margin": 0.33,
        "group": topic,
        "comparison": number,
        "votes_chosen": 1,
        "votes_rejected": 0,
        "votes_tie": 0,
    }


def judgment(pair: dict) -> dict:
    """One annotator's word on both answers of a pair: the short one is unsafe."""
    texts = [pair["chosen"][0]["content"], pair["rejected"][0]["content"]]
    return {
        "comparison": f"{pair['group']} {pair['comparison']}",
        "split": "train",
        "group": pair["group"],
        "prompt": pair["prompt"],
        "completions": texts,
        "annotator": "ann",
        "ranking": [[0], [1]],
        "strength": -1,
        "safety": ["unsafe" if text == BAD else "safe" for text in texts],
    }


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_snapshot(project: Project, name: str = "good", **fields) -> Snapshot:
    path, digest = snapshot_files(name)
    counts = {"pairs_train": 24, "pairs_test": 8, "judgments": 32} | fields
    return Snapshot.objects.create(project=project, path=path, digest=digest, manifest={}, **counts)


def make_parent(project: Project) -> Version:
    path, digest = policy_files()
    return make_version(project, path=path, digest=digest, state="promoted")


def queue_reward_round(project: Project, *, steps: int = 6, data: str = "good", **facts: int) -> Round:
    """A round of one reward stage: the quickest thing that trains."""
    spec = {
        "name": "reward",
        "stage": "reward",
        "config": {"optimization": {**TINY, "max_steps": steps, "epochs": 1000}},
        "inputs": {"snapshot": "snapshot", "parent": "parent"},
        **facts,
    }
    return queue_round(
        project=project,
        kind=Round.Kind.TRAINING,
        recipe={"name": "test", "title": "Reward model only", "stages": [spec]},
        snapshot=make_snapshot(project, data),
        parent=make_parent(project),
    )
