"""Going against the gate by two people, and promotion by the gate itself."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from labelapp.models import DeploymentEvent, EngineVersion, GateOverride, Round, RoundEvent, Schedule, Version
from labelapp.rounds import schedule
from labelapp.rounds.overrides import OverrideRefused, ask_override, confirm_override, withdraw_override
from labelapp.rounds.promote import (
    ReasonRequired,
    SecondPersonRequired,
    StaleEpoch,
    activate_pending,
    cancel_pending,
    deployment_of,
    promote,
)
from tests.factories import add_member, make_project, make_user
from tests.gate.rounds import audit, make_gate, make_passing, make_policy

RULE = {"key": "win_rate", "limit": 0.5}


@pytest.fixture
def admin(db):
    return make_user("ada")


@pytest.fixture
def other(admin):
    return make_user("bob")


@pytest.fixture
def project(admin, other):
    project = make_project(admin=admin)
    add_member(project, other, "admin")
    return project


@pytest.fixture
def blocked(project, tmp_path):
    """A candidate that the gate blocks, in a project that asks for a second admin."""
    make_gate(project, RULE, second_person=True)
    version = make_policy(project, tmp_path)
    audit(version, tmp_path, win_rate={"value": 0.3, "low": 0.2, "high": 0.4})
    return version


def ask(project, version, by, reason="the suite is broken") -> GateOverride:
    return ask_override(deployment=deployment_of(project), version=version, by=by, reason=reason)


def test_one_person_alone_cannot_go_against_the_gate(project, admin, blocked):
    with pytest.raises(SecondPersonRequired, match="a second admin"):
        promote(deployment=deployment_of(project), version=blocked, by=admin, reason="I know", seen_epoch=0)
    with pytest.raises(ReasonRequired):
        ask(project, blocked, admin, reason=" ")
    with pytest.raises(OverrideRefused, match="another admin must confirm"):
        confirm_override(override=ask(project, blocked, admin), by=admin, seen_epoch=0)
    assert not DeploymentEvent.objects.exists()


def test_a_second_admin_confirms_and_the_history_names_both(project, admin, other, blocked):
    override = ask(project, blocked, admin)
    done = confirm_override(override=override, by=other, seen_epoch=0)
    event, override = done.event, GateOverride.objects.get()
    assert (event.version, event.by, event.reason) == (blocked, other, "the suite is broken")
    assert (override.asked_by, override.confirmed_by, override.event) == (admin, other, event)
    assert event.gate["verdict"] == override.gate["verdict"] == "block"


def test_a_version_that_must_be_loaded_carries_its_override_to_the_epoch(project, admin, other, blocked):
    EngineVersion.objects.all().delete()
    done = confirm_override(override=ask(project, blocked, admin), by=other, seen_epoch=0)
    assert done.event is None and GateOverride.objects.get().event is None
    EngineVersion.objects.create(version=blocked, state="ready")
    event = activate_pending(deployment_of(project))
    assert (event.override.asked_by, event.gate["verdict"]) == (admin, "block")


def test_a_switch_that_was_cancelled_leaves_its_override_to_no_later_epoch(project, admin, other, blocked, tmp_path):
    EngineVersion.objects.all().delete()
    confirm_override(override=ask(project, blocked, admin), by=other, seen_epoch=0)
    cancel_pending(deployment=deployment_of(project))
    EngineVersion.objects.create(version=blocked, state="ready")
    make_gate(project, RULE)
    done = promote(deployment=deployment_of(project), version=blocked, by=admin, reason="now alone", seen_epoch=0)
    assert done.event.gate["override"] is None
    assert GateOverride.objects.get().event is None


def test_a_request_is_answered_once(project, admin, other, blocked):
    override = ask(project, blocked, admin)
    with pytest.raises(OverrideRefused, match="already"):
        ask(project, blocked, other)
    assert withdraw_override(override=override, by=other)
    assert not withdraw_override(override=override, by=admin)
    with pytest.raises(OverrideRefused, match="answered already"):
        confirm_override(override=override, by=other, seen_epoch=0)
    assert ask(project, blocked, admin).pk != override.pk


def test_a_gate_that_moved_and_an_epoch_that_moved_are_refused_and_leave_the_request_open(
    project, admin, other, blocked, tmp_path
):
    override = ask(project, blocked, admin)
    with pytest.raises(StaleEpoch):
        confirm_override(override=override, by=other, seen_epoch=7)
    make_gate(project, RULE, second_person=True)
    with pytest.raises(OverrideRefused, match="has changed since"):
        confirm_override(override=override, by=other, seen_epoch=0)
    assert GateOverride.objects.get().confirmed_at is None


def test_the_database_refuses_a_confirmation_by_whoever_asked(project, admin, blocked):
    override = ask(project, blocked, admin)
    rows = GateOverride.objects.filter(pk=override.pk)
    with pytest.raises(IntegrityError, match="override_is_confirmed_by_another_person"), transaction.atomic():
        rows.update(confirmed_by=F("asked_by"), confirmed_at=timezone.now())


@pytest.mark.parametrize(
    ("constraint", "change"),
    [
        ("override_has_a_reason", {"reason": ""}),
        ("override_is_confirmed_or_withdrawn", {"confirmed_at": timezone.now()}),
    ],
)
def test_half_an_override_is_refused(project, admin, blocked, constraint, change):
    override = ask(project, blocked, admin)
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        GateOverride.objects.filter(pk=override.pk).update(**change)


def scheduled_round(project, version: Version, why: str = "3 new judgments", by=None) -> Round:
    """A finished round that made this version, as the project's schedule's last."""
    round = Round.objects.create(
        project=project, number=900 + project.rounds.count(), recipe={"name": "t", "stages": []}, state="done",
        created_by=by,
    )  # fmt: skip
    RoundEvent.objects.create(round=round, kind="launched", detail={"why": why} if why else {})
    Version.objects.filter(pk=version.pk).update(round=round)
    row, _ = Schedule.objects.get_or_create(
        project=project, defaults={"enabled": True, "every_judgments": 10**6, "recipe": "reward"}
    )
    Schedule.objects.filter(pk=row.pk).update(last_round=round)
    return round


def test_a_scheduled_rounds_candidate_that_passes_is_promoted_by_the_gate_once(project, tmp_path):
    make_gate(project, RULE, promote_on_pass=True)
    version = make_passing(project, tmp_path)
    round = scheduled_round(project, version)
    schedule.tick()
    schedule.tick()
    event = DeploymentEvent.objects.get()
    assert (event.version, event.by, event.gate["by_gate"], event.gate["verdict"]) == (version, None, True, "pass")
    assert [found.kind for found in round.events.all()] == ["launched", "promoted"]


def test_nothing_is_promoted_without_the_option_a_pass_or_a_schedule(project, admin, tmp_path):
    make_gate(project, RULE)
    version = make_passing(project, tmp_path)
    scheduled_round(project, version)
    schedule.tick()
    assert not RoundEvent.objects.filter(kind__endswith="promoted").exists()

    make_gate(project, RULE, promote_on_pass=True)
    scheduled_round(project, version, why="", by=admin)
    schedule.tick()
    assert not RoundEvent.objects.filter(kind__endswith="promoted").exists()

    weak = make_policy(project, tmp_path)
    audit(weak, tmp_path, win_rate={"low": 0.45})
    round = scheduled_round(project, weak)
    schedule.tick()
    assert round.events.last().detail["because"] == "The gate says warn."
    assert not DeploymentEvent.objects.exists()


def test_a_candidate_that_cannot_be_served_is_told_in_the_rounds_story(project, tmp_path):
    make_gate(project, RULE, promote_on_pass=True)
    version = make_passing(project, tmp_path)
    round = scheduled_round(project, version)
    EngineVersion.objects.all().delete()
    waiting = make_passing(project, tmp_path, loaded=False)
    promote(deployment=deployment_of(project), version=waiting, by=None, seen_epoch=0)
    schedule.tick()
    assert "is waiting for" in round.events.last().detail["because"]
    assert timezone.now() - round.events.last().created_at < timedelta(minutes=1)
