"""A project's own gate: which figures decide, how they are paired with the champion's, and what only warns."""

import json

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from labelapp.models import GateRule, GateSettings, Round
from labelapp.rounds.decision import decide
from labelapp.rounds.promote import deployment_of, promote
from labelapp.rounds.version_figures import version_rows
from tests.factories import make_project, make_user
from tests.gate.rounds import audit, kept, make_gate, make_passing, make_policy

LENGTH = "mean_length_tokens"


@pytest.fixture
def admin(db):
    return make_user()


@pytest.fixture
def project(admin):
    return make_project(admin=admin)


def champion_with(project, admin, folder, values: list[float], key: str = LENGTH):
    """A version that answers, with these values of the figure."""
    champion = make_policy(project, folder)
    audit(champion, folder, values=kept(key, values))
    promote(deployment=deployment_of(project), version=champion, by=admin, reason="first", seen_epoch=0)
    return champion


def candidate_with(project, folder, values: list[float] | None, key: str = LENGTH, **spoiled):
    version = make_policy(project, folder)
    audit(version, folder, values=values and kept(key, values), **spoiled)
    return version


def spread(mean: float, rows: int = 60) -> list[float]:
    return [mean + (number * 37 % 11 - 5) / 5 for number in range(rows)]


def test_without_settings_the_built_in_limits_decide(project, tmp_path):
    good = make_passing(project, tmp_path)
    bad = candidate_with(project, tmp_path, None, repetition={"value": 0.5})
    assert (decide(good).verdict, decide(good).settings) == ("pass", None)
    assert decide(bad).verdict == "block"
    assert "Nothing was measured" in decide(make_policy(project, tmp_path)).reasons[0]


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.51, 0.60, "pass"), (0.48, 0.60, "warn"), (0.40, 0.49, "block")]
)
def test_a_limit_passes_with_the_whole_interval_warns_across_and_blocks_beyond(project, tmp_path, low, high, verdict):
    make_gate(project, {"key": "win_rate", "limit": 0.5})
    version = candidate_with(project, tmp_path, None, win_rate={"value": (low + high) / 2, "low": low, "high": high})
    decision = decide(version)
    assert decision.verdict == verdict
    assert bool(decision.reasons) == (verdict != "pass")


def test_lower_and_nearer_to_zero_are_judged_their_own_way(project, tmp_path):
    bias = {"value": 0.04, "low": -0.02, "high": 0.09, "unit": "-1 to 1"}
    able = {"value": 0.6, "low": 0.5, "high": 0.7, "unit": "share"}
    version = candidate_with(project, tmp_path, None, bbq_bias_ambiguous=bias, bbq_accuracy_disambiguated=able)
    for limit, verdict in ((0.1, "pass"), (0.05, "warn")):
        make_gate(project, {"key": "bbq_bias_ambiguous", "direction": "zero", "limit": limit})
        assert decide(version).verdict == verdict
    make_gate(project, {"key": "repetition", "direction": "lower", "limit": 0.05})
    assert decide(version).verdict == "pass"
    make_gate(project, {"key": "mean_length_tokens", "direction": "lower", "limit": 39.0})
    assert decide(version).verdict == "block"


def test_figures_that_were_not_chosen_do_not_gate(project, tmp_path):
    make_gate(project, {"key": "win_rate", "limit": 0.5})
    assert decide(candidate_with(project, tmp_path, None, repetition={"value": 0.5})).verdict == "pass"


def test_a_figure_of_a_task_at_chance_warns_and_never_blocks(project, tmp_path):
    make_gate(project, {"key": "bbq_bias_ambiguous", "direction": "zero", "limit": 0.05})
    biased = {"value": 0.9, "low": 0.8, "high": 1.0, "unit": "-1 to 1"}
    guessing = {"value": 0.34, "low": 0.30, "high": 0.38, "unit": "share"}
    version = candidate_with(project, tmp_path, None, bbq_bias_ambiguous=biased, bbq_accuracy_disambiguated=guessing)
    decision = decide(version)
    assert decision.verdict == "warn"
    assert "warns only" in decision.reasons[0] and "a third" in decision.reasons[0]

    able = {"value": 0.6, "low": 0.5, "high": 0.7, "unit": "share"}
    version = candidate_with(project, tmp_path, None, bbq_bias_ambiguous=biased, bbq_accuracy_disambiguated=able)
    assert decide(version).verdict == "block"


def test_a_figure_that_does_not_beat_its_trivial_baseline_warns_only(project, tmp_path):
    make_gate(project, {"key": "reward_accuracy", "limit": 0.5})
    version = candidate_with(project, tmp_path, None, reward_accuracy={"value": 0.75, "low": 0.70, "high": 0.79})
    assert decide(version).verdict == "warn"
    assert "longer wins" in decide(version).reasons[0]


def test_the_overall_reward_beside_a_criterions_head_is_no_trivial_baseline(project, tmp_path):
    make_gate(project, {"key": "accuracy_of_clear", "limit": 0.55})
    head = {"value": 0.62, "low": 0.58, "high": 0.66, "unit": "share", "baselines": {"longer_wins": 0.5, "reward": 0.6}}
    assert decide(candidate_with(project, tmp_path, None, accuracy_of_clear=head)).verdict == "pass"
    version = candidate_with(project, tmp_path, None, accuracy_of_clear=head | {"low": 0.49})
    assert "warns only" in decide(version).reasons[0] and "longer wins" in decide(version).reasons[0]


def test_too_few_rows_or_groups_or_nothing_measured_is_no_evidence(project, tmp_path):
    make_gate(project, {"key": "win_rate", "limit": 0.5, "minimum": 600})
    version = make_passing(project, tmp_path)
    assert decide(version).verdict == "no-evidence"
    assert "500 rows, and at least 600" in decide(version).reasons[0]
    make_gate(project, {"key": "auc_of_cost", "limit": 0.5})
    assert decide(version).reasons == ["An unsafe answer costs more than a safe one was not measured."]


def test_a_loss_beyond_the_margin_blocks_one_within_passes_and_doubt_warns(project, admin, tmp_path):
    champion_with(project, admin, tmp_path, spread(40))
    make_gate(project, {"key": LENGTH, "direction": "lower", "margin": 2.0})
    verdicts = {mean: decide(candidate_with(project, tmp_path, spread(mean))).verdict for mean in (39, 41, 44)}
    assert verdicts == {39: "pass", 41: "pass", 44: "block"}

    noisy = [40.5 + (60 if number % 2 else -60) for number in range(60)]
    decision = decide(candidate_with(project, tmp_path, noisy))
    assert decision.verdict == "warn"
    assert "not shown to be as good as the champion" in decision.reasons[0]


def test_the_arithmetic_is_kept(project, admin, tmp_path):
    champion = champion_with(project, admin, tmp_path, spread(40))
    make_gate(project, {"key": LENGTH, "direction": "lower", "margin": 2.0})
    decision = decide(candidate_with(project, tmp_path, spread(41)))
    record = json.loads(json.dumps(decision.record))
    beside = record["lines"][0]["beside"]
    assert (record["champion"], record["settings"]) == (champion.name, 1)
    assert beside["difference"] == pytest.approx(-1.0)  # lower is better, and it is longer by one token
    assert (beside["n"], beside["clusters"]) == (60, 12)
    assert beside["candidate"] - beside["champion"] == pytest.approx(1.0)
    assert beside["no_worse"] == beside["adjusted"] < 0.05  # of one comparison Holm's is the p itself


def test_only_items_that_both_were_asked_are_paired(project, admin, tmp_path):
    champion_with(project, admin, tmp_path, spread(40))
    make_gate(project, {"key": LENGTH, "direction": "lower", "margin": 2.0})
    version = make_policy(project, tmp_path)
    extra = [{**row, "item": f"new {row['item']}", "value": 500.0} for row in kept(LENGTH, spread(40))]
    audit(version, tmp_path, values=kept(LENGTH, spread(40)) + extra)
    assert decide(version).verdict == "pass"
    assert decide(version).lines[0].beside.compared.n == 60


def test_where_nothing_can_be_paired_the_page_is_told_why(project, admin, tmp_path):
    champion = champion_with(project, admin, tmp_path, spread(40))
    make_gate(project, {"key": LENGTH, "direction": "lower", "margin": 2.0})

    def why(version):
        decision = decide(version)
        assert decision.verdict == "no-evidence"
        return decision.reasons[0]

    assert "were not kept item by item" in why(candidate_with(project, tmp_path, None))
    other = make_policy(project, tmp_path)
    audit(other, tmp_path, values=[{**row, "item": f"other {row['item']}"} for row in kept(LENGTH, spread(40))])
    assert f"no item of it was asked of {champion} too" in why(other)
    hot = candidate_with(project, tmp_path, spread(40))
    stage = hot.audits.get().stage
    stage.job = {"config": {"max_new_tokens": 64, "temperature": 0.2}}
    stage.save()
    assert "measured with another temperature" in why(hot)
    few = candidate_with(project, tmp_path, spread(40, rows=20))
    assert "20 rows, and at least 50" in why(few)


def test_values_that_were_changed_on_the_disk_do_not_count(project, admin, tmp_path):
    champion_with(project, admin, tmp_path, spread(40))
    make_gate(project, {"key": LENGTH, "direction": "lower", "margin": 2.0})
    version = candidate_with(project, tmp_path, spread(40))
    file = tmp_path / f"values-{version.pk}.jsonl"
    whole = file.read_text()
    file.write_text("")
    assert decide(version).verdict == "no-evidence"
    file.unlink()
    assert decide(version).verdict == "no-evidence"
    file.write_text(whole)  # such as one that was fetched from the bucket meanwhile
    assert decide(version).verdict == "pass"


def test_what_the_stage_measured_beside_the_candidate_pairs_it_with_a_champion_that_is_its_parent(
    project, admin, tmp_path
):
    parent = make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=parent, by=admin, seen_epoch=0)
    make_gate(project, {"key": "win_rate", "margin": 0.03})
    version = make_policy(project, tmp_path, parent=parent)
    wins = [1.0, 1.0, 0.0] * 40
    found = audit(version, tmp_path, values=kept("win_rate", wins, groups=10, other=0.5, against="parent"))
    recipe = {"name": "test", "stages": [{"name": "evaluate", "inputs": {"parent": "parent"}}]}
    Round.objects.filter(pk=found.stage.round_id).update(recipe=recipe, parent=parent)

    decision = decide(version)
    assert decision.verdict == "pass"
    assert decision.lines[0].beside.candidate == pytest.approx(2 / 3)

    later = make_passing(project, tmp_path)
    promote(deployment=deployment_of(project), version=later, by=admin, reason="it is newer", seen_epoch=1)
    decision = decide(version)
    assert decision.verdict == "no-evidence"
    assert f"measured against {parent}, and {later} answers now" in decision.reasons[0]


def test_several_comparisons_share_the_alpha(project, admin, tmp_path):
    """Two figures of the same p near alpha: alone each passes, together neither does."""
    chance = [(number * 7919 % 101 - 50) / 50 for number in range(60)]
    rows = [kept(key, [0.0] * 60) for key in (LENGTH, "repetition")]
    champion = make_policy(project, tmp_path)
    audit(champion, tmp_path, values=rows[0] + rows[1])
    promote(deployment=deployment_of(project), version=champion, by=admin, reason="first", seen_epoch=0)
    version = make_policy(project, tmp_path)
    audit(version, tmp_path, values=kept(LENGTH, chance) + kept("repetition", chance))
    margin, rule = 0.0, {"key": LENGTH, "direction": "lower"}
    while True:  # the smallest margin at which one figure passes by itself
        margin += 0.002
        make_gate(project, {**rule, "margin": margin})
        if decide(version).verdict == "pass":
            break
    make_gate(project, {**rule, "margin": margin}, {"key": "repetition", "direction": "lower", "margin": margin})
    decision = decide(version)
    assert decision.verdict == "warn"
    line = decision.lines[0].beside
    assert line.adjusted == pytest.approx(2 * line.compared.no_worse)


def test_the_list_of_versions_says_what_the_gate_says_now(project, tmp_path):
    version = make_passing(project, tmp_path)
    assert [row.verdict for row in version_rows(project)] == ["pass"]
    make_gate(project, {"key": "win_rate", "limit": 0.7})
    (row,) = version_rows(project)
    assert (row.verdict, row.reasons) == ("block", decide(version).reasons)


def test_without_a_champion_a_margin_is_no_evidence(project, tmp_path):
    make_gate(project, {"key": LENGTH, "direction": "lower", "margin": 2.0})
    assert "no champion" in decide(candidate_with(project, tmp_path, spread(40))).reasons[0]


def test_settings_and_rules_are_append_only_and_their_numbers_unique(project):
    make_gate(project, {"key": "win_rate", "limit": 0.5})
    for row, change in ((make_gate(project), {"alpha": 0.2}), (GateRule.objects.get(), {"limit": 0.1})):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            type(row).objects.filter(pk=row.pk).update(**change)
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            row.delete()
    with pytest.raises(IntegrityError, match="gate_number_is_unique_in_project"), transaction.atomic():
        GateSettings.objects.create(project=project, number=1)
    with pytest.raises(IntegrityError, match="gate_alpha_is_small"), transaction.atomic():
        GateSettings.objects.create(project=project, number=3, alpha=0.5)


@pytest.mark.parametrize(
    ("constraint", "rule"),
    [
        ("figure_gates_once", {"key": "win_rate", "limit": 0.4}),
        ("gate_rule_has_a_margin_or_a_limit", {"key": "repetition"}),
        ("gate_margin_is_of_a_figure_with_a_direction", {"key": "repetition", "margin": -0.1}),
        ("gate_margin_is_of_a_figure_with_a_direction", {"key": "repetition", "margin": 0.1, "direction": "zero"}),
        ("gate_minimum_is_two", {"key": "repetition", "limit": 0.1, "minimum": 1}),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(project, constraint, rule):
    settings = make_gate(project, {"key": "win_rate", "limit": 0.5})
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        GateRule.objects.create(settings=settings, **{"direction": "higher", **rule})
