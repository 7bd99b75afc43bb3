"""A project that went once around the loop: a policy's answers, judged and frozen, and what was trained on them."""

from types import SimpleNamespace

import pytest

from alignment.manifest import split_of
from labelapp.datasets.actions import freeze_snapshot
from labelapp.labeling.queue import create_comparisons
from labelapp.models import Comparison, Round
from tests.datasets.rows import vote
from tests.factories import add_member, make_completion, make_project, make_prompt, make_user, make_version
from tests.labeling.conftest import claim_and_answer

TEST = next(f"debate {n}" for n in range(99) if split_of(f"debate {n}", 0.2) == "test")


@pytest.fixture
def loop(db, settings, tmp_path):
    """A base, its sampling round, 6 judgments of 2 labelers and 4 imported ones, a snapshot, a round, a policy."""
    settings.ARTIFACT_DIR = tmp_path
    ann, bob = make_user("ann"), make_user("bob")
    project = make_project(
        "loop", overlap=2, labeler=ann, admin=make_user("adm"), researcher=make_user("res"), reviewer=make_user("rev")
    )
    add_member(project, bob, "labeler")
    base = make_version(project, name="base", state="promoted")
    stage = {"name": "s", "stage": "generate", "inputs": {"policy": f"version:{base.pk}"}}
    sampling = Round.objects.create(
        project=project, number=501, kind="sampling", state="done", recipe={"title": "Sample", "stages": [stage]}
    )
    comparisons = [sampled(project, base, sampling, f"Argue for number {number}.") for number in range(3)]
    for labeler in (ann, ann, ann, bob, bob, bob):
        claim_and_answer(project, labeler, strength=2)
    vote(project, "aab", group=TEST)
    vote(project, "a", group="debate 3")
    snapshot = freeze_snapshot(project=project, by=None)
    inputs = {"snapshot": "snapshot", "parent": "parent"}
    training = Round.objects.create(
        project=project, number=502, state="done", snapshot=snapshot, parent=base,
        recipe={"title": "DPO", "stages": [{"name": "preference", "stage": "preference", "inputs": inputs}]},
    )  # fmt: skip
    trained = make_version(project, name="trained", parent=base, round=training, snapshot=snapshot)
    return SimpleNamespace(
        project=project, ann=ann, bob=bob, base=base, sampling=sampling, comparisons=comparisons, snapshot=snapshot,
        training=training, trained=trained,
    )  # fmt: skip


def sampled(project, version, round, text) -> Comparison:
    prompt = make_prompt(project, text, group="debate 3")
    assert split_of("debate 3", 0.2) == "train"
    answers = [make_completion(prompt, f"{text} {end}", version=version) for end in ("Because.", "It is so.")]
    items = [(prompt, answers)]
    return create_comparisons(project=project, items=items, origin="random", round=round, propensity=0.5)[0]
