"""Rounds side by side: what was set differently, whose figures are better, and when nobody can tell."""

import json
import math
import random
from pathlib import Path

import pytest
from scipy import stats

from alignment.manifest import file_sha256
from labelapp.models import AuditMetric, MetricRow, Round
from labelapp.rounds.actions import launch_round
from labelapp.rounds.beside import figure_rows, overlaid_stages
from labelapp.rounds.config_diff import differences
from labelapp.rounds.paired import gap_between, paired_gap
from labelapp.rounds.values import Value
from tests.factories import make_project, make_user
from tests.rounds.material import make_parent, make_snapshot
from tests.rounds.test_pages import finish
from tests.rounds.test_saved import keep

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project(admin=make_user(), researcher=make_user(), labeler=make_user())


def run(project, *, spoiled: dict | None = None, right: list[bool] | None = None, **how) -> Round:
    """A finished round; right: what its reward model did on each held-out pair."""
    start = {"snapshot": project.snapshots.first() or make_snapshot(project)}
    start["parent"] = project.versions.filter(round=None).first() or make_parent(project)
    round = launch_round(project=project, **start, **how)
    finish(round, **(spoiled or {}))
    if right:
        write_items(round, right)
    return round


def write_items(round: Round, right: list[bool], *, kind: str = "pair") -> None:
    """values.jsonl as `evaluate` writes it, cited by its result: four pairs a group."""
    rows = [
        {"metric": "reward_accuracy", "item": f"{kind} {number}", "group": f"group {number // 4}", "value": float(good),
         "other": None, "against": ""}
        for number, good in enumerate(right)
    ]  # fmt: skip
    stage = round.stages.get(stage="evaluate")
    path = Path(stage.output) / "values.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage.result |= {"values": {"file": path.name, "sha256": file_sha256(path)}}
    stage.save()


def row_of(rounds: list[Round], name: str):
    return next(row for row in figure_rows(rounds) if row.name == name)


def open_as(client, project, role: str, query: str):
    client.force_login(project.memberships.get(role=role).user)
    return client.get(f"/p/{project.slug}/rounds/compare/?{query}")


def test_a_paired_difference_with_one_item_a_group_is_the_paired_t_test():
    draw = random.Random(3)
    before = {str(i): Value(str(i), draw.gauss(0, 1), None, "") for i in range(12)}
    after = {key: item._replace(value=item.value + draw.gauss(0.4, 0.5)) for key, item in before.items()}
    gap = paired_gap(before, after)
    oracle = stats.ttest_rel([after[key].value for key in before], [item.value for item in before.values()])
    low, high = oracle.confidence_interval(0.95)
    assert (gap.low, gap.high) == (pytest.approx(low), pytest.approx(high)) and gap.paired


def test_items_of_one_group_count_as_one_voice():
    """Groups a: +1 +1, b: 0 0. Mean 1/2; the groups' residuals 1 and -1; SE = sqrt(2 / 1 * 2) / 4 = 1/2."""
    before = {key: Value(key[0], 0.0, None, "") for key in ("a1", "a2", "b1", "b2")}
    after = {key: item._replace(value=1.0 if key[0] == "a" else 0.0) for key, item in before.items()}
    gap = paired_gap(before, after)
    assert gap.value == 0.5 and gap.high == pytest.approx(0.5 + 12.7062 * 0.5, abs=1e-3)
    lone = paired_gap({"a1": before["a1"]}, {"a1": after["a1"]})
    assert (lone.value, lone.low) == (1.0, None) and not lone.is_clear


def test_unpaired_figures_add_the_squares_of_their_half_widths():
    before = AuditMetric(key="win_rate", value=0.5, low=0.4, high=0.53)
    after = AuditMetric(key="win_rate", value=0.7, low=0.66, high=0.8)
    gap = gap_between(before, after, {}, {})
    assert not gap.paired and gap.value == pytest.approx(0.2)
    assert gap.low == pytest.approx(0.2 - math.hypot(0.04, 0.03))
    assert gap.high == pytest.approx(0.2 + math.hypot(0.1, 0.1))
    assert gap_between(before, AuditMetric(key="win_rate", value=None), {}, {}) is None
    assert gap_between(before, AuditMetric(key="win_rate", value=0.7), {}, {}).low is None


def test_the_same_items_are_compared_in_pairs_and_the_better_round_is_named(project):
    before = [number % 2 == 0 for number in range(80)]
    first = run(project, right=before)
    second = run(project, right=[good or bool(number % 5) for number, good in enumerate(before)])
    row = row_of([first, second], "Held-out reward accuracy")
    assert row.against[0].how == "paired, 80 items" and row.against[0].verdict == "round 2 is better"
    assert row.against[0].change == "+40.0 pp"


def test_other_items_are_plainly_unpaired(project):
    first, second = run(project, right=[True] * 8), run(project)
    write_items(second, [True] * 8, kind="other pair")
    against = row_of([first, second], "Held-out reward accuracy").against[0]
    assert against.how == "unpaired" and against.verdict == "cannot tell"


def test_a_file_of_items_that_was_changed_since_is_not_gone_by(project):
    first, second = run(project, right=[True] * 8), run(project, right=[True] * 8)
    assert row_of([first, second], "Held-out reward accuracy").against[0].how == "paired, 8 items"
    with open(Path(second.stages.get(stage="evaluate").output) / "values.jsonl", "a") as file:
        file.write(" ")
    assert row_of([first, second], "Held-out reward accuracy").against[0].how == "unpaired"


def test_lower_is_better_where_the_figure_is_an_error_and_no_figure_without_a_direction_names_a_winner(project):
    first = run(project)
    second = run(project, spoiled={"repetition": {"value": 0.5, "low": 0.45, "high": 0.55},
                                   "mean_length_tokens": {"value": 90.0, "low": 85.0, "high": 95.0}})  # fmt: skip
    assert row_of([first, second], "Repeated runs of four tokens").against[0].verdict == "round 1 is better"
    assert row_of([first, second], "Mean length").against[0].verdict == "differs"


def test_win_rates_are_no_contest_between_rounds_that_had_other_judges_or_other_parents(project):
    first = run(project)
    second = run(project, spoiled={"win_rate": {"value": 0.9, "low": 0.88, "high": 0.92}})
    against = row_of([first, second], "Win rate against the parent").against[0]
    assert against.verdict == "cannot tell" and "its own reward model" in against.how
    second.parent = second.versions.get(kind="policy")
    assert row_of([first, second], "Win rate against the parent").against[0].how == "other parents"


def test_only_what_was_set_differently_is_listed(project):
    version = keep(project, changes={"preference.beta": 0.3})
    first, second = run(project), run(project, saved=version, seed=5)
    found = {row.path: [value.text for value in row.values] for row in differences([first, second])}
    assert found["preference.beta"] == ["0.1", "0.3"] and found["seed"] == ["0", "5"]
    assert found["recipe"] == ["Reward model, then DPO", "Gentle DPO v1"]
    assert "snapshot" not in found and "reward.optimization.learning_rate" not in found


def test_a_default_that_one_round_wrote_out_is_no_difference_and_models_go_by_their_names(project):
    rounds = [run(project), run(project, changes={"preference.optimization.batch_size": 16})]
    found = {row.path: [value.text for value in row.values] for row in differences(rounds)}
    champion = rounds[0].versions.get(kind="reward")
    assert found == {"evaluate ← reward_champion": ["–", champion.name]}


def test_curves_of_all_rounds_stand_in_one_plot_on_one_scale_with_their_values(project):
    first, second = run(project), run(project)
    MetricRow.objects.filter(stage__round=second, stage__name="reward", step=3).update(values={"loss_nats": 2.0})
    stage = next(stage for stage in overlaid_stages([first, second]) if stage.label == "reward model")
    loss = next(overlay for overlay in stage.overlays if overlay.plot.key == "loss_nats")
    assert [line.text for line in loss.lines] == ["0.4 nats", "2 nats"] and len({line.path for line in loss.lines}) == 2
    assert (3, "Loss", [pytest.approx(0.4), 2.0]) in stage.rows


def test_the_page_shows_configuration_figures_and_plots_to_those_who_may_look(client, project):
    run(project, right=[True, False] * 20), run(project, right=[True] * 40, changes={"preference.beta": 0.3})
    assert open_as(client, project, "labeler", "round=1&round=2").status_code == 403
    page = open_as(client, project, "researcher", "round=1&round=2").content.decode()
    assert "<code>preference.beta</code>" in page and "round 2 is better" in page and "paired, 40 items" in page
    assert page.count('class="line-1" d="M') >= 2 and "The numbers behind these plots" in page


def test_versions_of_a_recipe_stand_for_their_latest_finished_rounds(client, project):
    old, new = keep(project), keep(project, changes={"preference.beta": 0.9})
    unrun = keep(project, changes={"preference.beta": 0.95})
    run(project, saved=old), run(project, saved=old), run(project, saved=new)
    page = open_as(client, project, "researcher", f"version={old.pk}&version={new.pk}")
    assert [round.number for round in page.context["chosen"]] == [2, 3]
    page = open_as(client, project, "researcher", f"version={old.pk}&version={unrun.pk}")
    assert b"has no finished round yet" in page.content and "figures" not in page.context


@pytest.mark.parametrize("query", ["round=9&round=1", "round=x", "version=1", "round=99999999999", "round=1&round=-1"])
def test_what_is_not_of_the_project_is_not_found(client, project, query):
    run(project)
    if query.startswith("version"):
        query = f"version={keep(make_project(admin=make_user())).pk}"
    assert open_as(client, project, "admin", query).status_code == 404


def test_one_round_alone_and_too_many_ask_for_another_choice(client, project):
    for _ in range(5):
        run(project)
    assert b"choose another to compare" in open_as(client, project, "admin", "round=1").content
    everything = "&".join(f"round={number}" for number in range(1, 6))
    assert b"at most 4" in open_as(client, project, "admin", everything).content
    assert b"Choose rounds" in open_as(client, project, "admin", "").content
