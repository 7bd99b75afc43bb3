"""Active against random: as many labels of each, and held-out pairs that count by the inverse of their odds."""

import json
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from alignment.manifest import split_of
from labelapp.datasets.actions import freeze_snapshot
from labelapp.labeling.queue import create_comparisons
from labelapp.models import Comparison, Judgment, Round, Stage, User, Version
from labelapp.rounds.actions import earlier_reward, reward_models
from labelapp.rounds.arms import ACTIVE, RANDOM, ArmsRefused, compare_arms, told, told_by, weighted_interval
from labelapp.rounds.supervise import supervise_round
from labelapp.rounds.unused import find_unused
from tests.factories import make_completion, make_project, make_prompt, make_user
from tests.rounds.material import make_parent

TRAIN = [f"debate {n}" for n in range(40) if split_of(f"debate {n}", 0.2) == "train"]
TEST = [f"debate {n}" for n in range(40) if split_of(f"debate {n}", 0.2) == "test"]


@pytest.fixture
def project(db, settings, tmp_path):
    """Twelve judged picks of each arm to train on and four to test on; a snapshot of them and a policy."""
    settings.ARTIFACT_DIR = tmp_path
    project = make_project("arms", admin=make_user("adm"), researcher=make_user("res"), labeler=make_user("lab"))
    plan = {"name": "plan", "select": {"signal": "margin"}, "stages": []}
    round = Round.objects.create(project=project, number=800, kind="sampling", state="done", recipe=plan)
    labeler = User.objects.get(username="lab")
    for origin in ("random", "active"):
        for number in range(16):
            group = TRAIN[number] if number < 12 else TEST[number - 12]
            add(project, round, labeler, origin, group, 0.2 if origin == "random" else 0.8)
    make_parent(project)
    freeze_snapshot(project=project, by=None)
    return project


def add(project, round, labeler, origin, group, odds) -> None:
    prompt = make_prompt(project, f"{origin} {group}?", group=group)
    answers = [make_completion(prompt, f"{word} of {group}.") for word in ("Books are good", "No")]
    [comparison] = create_comparisons(
        project=project, items=[(prompt, answers)], origin=origin, round=round, propensities=[odds]
    )
    Judgment.objects.create(
        comparison=comparison, labeler=labeler, submission_id=uuid4(), body_hash="0" * 64, ranking=[[0], [1]],
        strength=-2, protocol=project.protocol_versions.last(),
    )  # fmt: skip


def evaluated(project, folder: Path, rows: list[tuple[Comparison, str, float, float]]) -> Stage:
    """A finished comparison of arms whose items are (comparison, group, active margin, random margin)."""
    recipe = {"name": "arms", "title": "Active against random", "stages": [], "labels": 12}
    round = Round.objects.create(project=project, number=900, state="done", recipe=recipe)
    lines = [
        {"kind": "pair", "comparison": comparison.pk, "group": group, "chosen_score": active, "rejected_score": 0.0,
         "chosen_baseline_score": chance, "rejected_baseline_score": 0.0}
        for comparison, group, active, chance in rows
    ]  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"kind": "template"}]))
    return Stage.objects.create(
        round=round, number=3, name="evaluate", stage="evaluate", state="done", output=str(folder)
    )


def test_each_arm_trains_on_as_many_labels_of_its_own_and_on_nothing_else(project):
    extra = Comparison.objects.filter(origin="active", prompt__group=TRAIN[0]).get()
    round = compare_arms(project=project, seed=3)
    train = {int(json.loads(line)["comparison"]) for line in open(f"{round.snapshot.path}/pairs-train.jsonl")}
    kept = {}
    for spec in round.recipe["stages"][:2]:
        left_out = json.loads(Path(spec["config"]["labels"]["weights_file"]).read_text())["comparisons"]
        assert set(left_out.values()) == {0.0}
        kept[spec["name"]] = train - {int(key) for key in left_out}
    assert {len(keys) for keys in kept.values()} == {12} and round.recipe["labels"] == 12
    for name, origin in ((RANDOM, "random"), (ACTIVE, "active")):
        assert set(Comparison.objects.filter(pk__in=kept[name]).values_list("origin", flat=True)) == {origin}
    assert extra.pk in kept[ACTIVE]


def test_gc_leaves_the_weights_of_the_arms(project):
    round = compare_arms(project=project, seed=3)
    weights = {spec["config"]["labels"]["weights_file"] for spec in round.recipe["stages"][:2]}
    assert weights and not weights & {str(each.path) for each in find_unused(young=0)}


def test_too_few_labels_are_refused_with_their_number(project):
    Comparison.objects.filter(origin="active").update(origin="import")
    with pytest.raises(ArmsRefused, match="12 of the random and 0 of the active arm"):
        compare_arms(project=project)
    with pytest.raises(ArmsRefused, match="Freeze a snapshot"):
        compare_arms(project=make_project("empty"))


def test_a_held_out_pair_counts_by_the_inverse_of_its_odds(project, tmp_path):
    """Odds of 0.2 and 0.8: weights of 5 and 1.25, so a random pair counts four times an active one."""
    rare = Comparison.objects.get(origin="random", prompt__group=TEST[0])
    often = Comparison.objects.get(origin="active", prompt__group=TEST[1])
    found = told(evaluated(project, tmp_path / "out", [(rare, TEST[0], 1.0, -1.0), (often, TEST[1], -1.0, 1.0)]))
    assert found.active == pytest.approx(5 / 6.25) and found.random == pytest.approx(1.25 / 6.25)
    assert found.effective == pytest.approx(6.25**2 / (25 + 1.5625)) and found.pairs == found.groups == 2
    assert found.low < found.difference < found.high or found.low <= -1


def test_a_pair_that_no_plan_picked_is_not_counted(project, tmp_path):
    pairs = list(Comparison.objects.filter(prompt__group__in=TEST[:3]).order_by("pk"))
    Comparison.objects.filter(pk=pairs[0].pk).update(propensity=None)
    found = told(evaluated(project, tmp_path / "out", [(each, each.prompt.group, 1.0, 0.0) for each in pairs]))
    assert found.pairs == len(pairs) - 1 and found.random == pytest.approx(0.5)
    assert told_by(project) == [found]


def test_an_interval_is_of_groups_and_of_one_group_there_is_none():
    gains, weights = np.array([1.0, 1.0, -1.0, -1.0]), np.ones(4)
    assert weighted_interval(gains, weights, ["a"] * 4, seed=0) == (None, None)
    low, high = weighted_interval(np.tile(gains, 30), np.ones(120), [str(n) for n in range(120)], seed=0)
    # The standard error of a mean of 120 values of size 1 is 1 / sqrt(120) = 0.0913; times 1.98 it is 0.181.
    assert (low, high) == (pytest.approx(-0.181, abs=0.03), pytest.approx(0.181, abs=0.03))


def test_gone_files_tell_nothing(project, tmp_path):
    stage = evaluated(project, tmp_path / "out", [])
    assert told(stage) is None
    (tmp_path / "out" / "items.jsonl").unlink()
    assert told(stage) is None and told_by(project) == []


def test_the_page_says_that_nothing_is_known_where_nothing_is(project, tmp_path):
    rows = list(Comparison.objects.filter(prompt__group__in=TEST[:4]))
    evaluated(project, tmp_path / "out", [(each, each.prompt.group, 1.0, 1.0) for each in rows])
    client = Client()
    client.force_login(User.objects.get(username="res"))
    page = client.get(reverse("plans", args=["arms"])).content.decode()
    assert "not told apart from chance" in page and "Train on each arm" not in page
    assert client.post(reverse("arms_compare", args=["arms"])).status_code == 403
    client.force_login(make_user("stranger"))
    assert client.post(reverse("arms_compare", args=["arms"])).status_code == 404


def test_an_admin_asks_for_the_comparison(project):
    client = Client()
    client.force_login(User.objects.get(username="adm"))
    response = client.post(reverse("arms_compare", args=["arms"]))
    round = project.rounds.get(recipe__name="arms")
    assert response.headers["Location"] == reverse("round", args=["arms", round.number])


@pytest.mark.django_db(transaction=True)
def test_the_arms_are_trained_and_told_apart_whole(project):
    round = compare_arms(project=project, seed=1)
    supervise_round(round.pk)
    round.refresh_from_db()
    assert round.state == "done", round.error
    [found] = told_by(project)
    assert found.labels == 12 and 0 <= found.random <= 1 and 0 <= found.active <= 1 and found.pairs == 8
    made = Version.objects.filter(round=round)
    assert made.count() == 2 and not reward_models(project).exists() and earlier_reward(project) is None
