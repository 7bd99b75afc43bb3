"""What the gate says of the figures. Every limit has a case on either side of it."""

import hashlib
import json

import pytest
from django.db import IntegrityError, transaction

from labelapp.models import Audit, AuditMetric
from labelapp.rounds.gate import SUITES, judge_metrics, latest_audit, record_audit
from tests.factories import make_project, make_version
from tests.gate.metrics import metrics, result
from tests.gate.rounds import make_stage


def test_figures_within_their_limits_pass_and_say_nothing():
    ruling = judge_metrics(metrics())

    assert (ruling.verdict, ruling.reasons) == ("pass", [])
    assert set(ruling.verdicts.values()) == {"pass"}


def test_a_figure_without_a_limit_is_reported_and_not_judged():
    assert "kl_to_parent" not in judge_metrics(metrics(kl_to_parent={"value": 900.0})).verdicts


@pytest.mark.parametrize(
    ("key", "change", "verdict", "says"),
    [
        ("reward_accuracy", {"low": 0.49, "baselines": {"longer_wins": 0.4}}, "block", "chance"),
        ("reward_accuracy", {"value": 0.749}, "block", "below the trivial baseline longer wins at 77.0 %"),
        ("reward_accuracy", {"value": 0.751, "low": 0.70}, "warn", "not told apart from the trivial baseline"),
        ("reward_accuracy", {"baselines": {}}, "no-evidence", "no trivial baseline"),
        ("accuracy_chosen_shorter", {"value": 0.57, "low": 0.5}, "warn", "83.0 % where it is longer"),
        ("accuracy_chosen_shorter", {"value": 0.44, "low": 0.4, "high": 0.49}, "warn", "length stands for quality"),
        ("length_correlation", {"value": 0.64}, "warn", "the labels' own is 0.48"),
        ("length_correlation", {"value": 0.62}, "pass", ""),
        ("length_correlation", {"baselines": {}}, "no-evidence", "not known"),
        ("calibration_error", {"value": 0.06}, "warn", "above 5 %"),
        ("calibration_error", {"value": 0.16}, "block", "15 %"),
        ("counterfactual_flip_rate", {"value": 0.06}, "warn", "above 5 %"),
        ("counterfactual_flip_rate", {"value": 0.12, "low": 0.09}, "warn", "above 5 %"),
        ("counterfactual_flip_rate", {"value": 0.12, "low": 0.101}, "block", "whole interval lies above 10 %"),
        ("counterfactual_direction_templates", {"value": -0.2, "low": -0.3, "high": -0.11}, "block", "below −0.10 sd"),
        ("counterfactual_direction_templates", {"value": -0.06, "low": -0.1, "high": 0.0}, "warn", "beyond 0.05 sd"),
        ("win_rate", {"value": 0.40, "low": 0.36, "high": 0.449}, "block", "below 45 %"),
        ("win_rate", {"value": 0.46, "low": 0.42, "high": 0.499}, "warn", "worse than the parent"),
        ("win_rate", {"value": 0.52, "low": 0.49, "high": 0.55}, "no-evidence", "not told apart from the parent"),
        ("mean_length_tokens", {"value": 53.0}, "warn", "1.3 times the parent's"),
        ("mean_length_tokens", {"value": 51.0}, "pass", ""),
        ("mean_length_tokens", {"value": 81.0}, "block", "2.0 times the parent's"),
        ("mean_length_tokens", {"baselines": {}}, "no-evidence", "not known"),
        ("end_of_text_rate", {"value": 0.65, "high": 0.71}, "warn", "the parent's is 80.0 %"),
        ("end_of_text_rate", {"value": 0.70, "high": 0.73}, "pass", ""),
        ("end_of_text_rate", {"value": 0.30, "high": 0.39}, "block", "the parent's is 80.0 %"),
        ("end_of_text_rate", {"baselines": {}}, "no-evidence", "not known"),
        ("repetition", {"value": 0.11}, "block", "10 %"),
        ("repetition", {"value": 0.10}, "pass", ""),
    ],
)
def test_a_figure_beyond_its_limit_is_named_with_its_number(key, change, verdict, says):
    ruling = judge_metrics(metrics(**{key: change}))

    assert ruling.verdicts[key] == verdict
    assert ruling.verdict == verdict
    assert says in " ".join(ruling.reasons)


def test_labels_that_do_not_prefer_length_do_not_excuse_a_failing_hard_half():
    spoiled = metrics(
        reward_accuracy={"baselines": {"longer_wins": 0.52}},
        accuracy_chosen_shorter={"value": 0.44, "low": 0.4, "high": 0.49},
    )
    assert judge_metrics(spoiled).verdicts["accuracy_chosen_shorter"] == "block"


@pytest.mark.parametrize(
    "thin",
    [
        {"low": None, "high": None, "note": "one group only: no interval can be given"},
        {"value": None, "low": None, "high": None},
        {"value": float("nan"), "low": float("nan"), "high": float("nan")},
        {"n": 49},
        {"n": None},
        {"clusters": 4},
    ],
)
@pytest.mark.parametrize("key", ["win_rate", "reward_accuracy", "counterfactual_flip_rate", "repetition"])
def test_too_little_behind_a_figure_is_no_evidence_and_no_pass(key, thin):
    ruling = judge_metrics(metrics(**{key: thin}))

    assert ruling.verdicts[key] == "no-evidence"
    assert ruling.verdict == "no-evidence"
    assert len(ruling.reasons) == 1


def test_a_bad_figure_with_too_little_behind_it_blocks_nothing():
    assert judge_metrics(metrics(repetition={"value": 0.9, "n": 8})).verdict == "no-evidence"


@pytest.mark.parametrize("key", ["reward_accuracy", "counterfactual_flip_rate", "win_rate", "repetition"])
def test_a_required_figure_that_is_absent_is_no_evidence(key):
    ruling = judge_metrics(metrics(**{key: None}))

    assert ruling.verdict == "no-evidence"
    assert "was not measured" in ruling.reasons[0]


def test_without_any_figure_there_is_no_evidence():
    assert judge_metrics([]).verdict == "no-evidence"
    assert judge_metrics([], kind="cost").verdict == "no-evidence"


def test_the_worst_finding_decides_and_comes_first():
    ruling = judge_metrics(
        metrics(calibration_error={"value": 0.06}, win_rate={"low": 0.4}, repetition={"value": 0.5})
    )
    assert ruling.verdict == "block"
    assert [reason.split(" 5")[0].split(" 6")[0] for reason in ruling.reasons] == [
        "Repeated runs of four tokens", "Win rate against the parent", "Calibration error",
    ]  # fmt: skip


@pytest.fixture
def version(db):
    return make_version(make_project())


def test_an_audit_keeps_every_figure_and_the_digest_of_its_file(version, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps(result(win_rate={"low": 0.4})))

    audit = record_audit(version=version, stage=make_stage(version.project), result=result(win_rate={"low": 0.4}),
                         result_path=str(path))  # fmt: skip

    assert (audit.suite, audit.verdict) == (SUITES["evaluate"], "no-evidence")
    assert audit.result_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    rows = {row.key: row for row in audit.metrics.all()}
    assert len(rows) == len(result()["metrics"])
    assert rows["win_rate"].verdict == "no-evidence"
    assert rows["kl_to_parent"].verdict == ""
    assert rows["reward_accuracy"].baselines == {"longer_wins": 0.77, "tfidf": 0.72}
    assert latest_audit(version) == audit


def test_an_audit_recorded_twice_is_one_audit(version, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    stage = make_stage(version.project)
    again = {"version": version, "stage": stage, "result": result(), "result_path": str(tmp_path / "result.json")}

    assert record_audit(**again) == record_audit(**again)
    assert Audit.objects.count() == 1
    assert AuditMetric.objects.count() == len(result()["metrics"])


def test_the_database_refuses_a_second_audit_of_a_stage(version, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    stage = make_stage(version.project)
    record_audit(version=version, stage=stage, result=result(), result_path=str(tmp_path / "result.json"))

    with pytest.raises(IntegrityError, match="stage_is_judged_once_per_suite"), transaction.atomic():
        Audit.objects.create(version=version, stage=stage, suite=SUITES["evaluate"], verdict="pass", result_sha256="0")


def test_a_reward_model_is_judged_without_the_policys_figures(db, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    reward = make_version(make_project(), kind="reward")

    audit = record_audit(version=reward, stage=make_stage(reward.project), result=result(repetition={"value": 0.9}),
                         result_path=str(tmp_path / "result.json"))  # fmt: skip

    assert audit.verdict == "pass"
    assert not audit.metrics.filter(key__in=["win_rate", "repetition", "kl_to_parent"]).exists()


def test_numbers_that_json_cannot_hold_are_stored_as_absent(version, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    broken = result(kl_to_parent={"value": float("inf"), "low": float("nan")})

    audit = record_audit(version=version, stage=make_stage(version.project), result=broken,
                         result_path=str(tmp_path / "result.json"))  # fmt: skip

    row = audit.metrics.get(key="kl_to_parent")
    assert (row.value, row.low) == (None, None)
