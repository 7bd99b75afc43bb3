"""Moving the alias: what is refused, what the epoch's row says, and what waits for the engine."""

import pytest
from django.db import IntegrityError, transaction

from labelapp.models import Deployment, DeploymentEvent, EngineVersion, Version
from labelapp.rounds import promote as switches
from labelapp.rounds.promote import (
    activate_pending,
    cancel_pending,
    deployment_of,
    fail_pending,
    found_alias,
    promote,
    rollback,
)
from labelapp.rounds.resident import wanted_versions
from tests.factories import make_project, make_user, make_version
from tests.gate.rounds import audit, make_passing, make_policy


@pytest.fixture
def admin(db):
    return make_user()


@pytest.fixture
def project(admin):
    return make_project(admin=admin)


@pytest.fixture
def deployment(project):
    return deployment_of(project)


def now(deployment: Deployment) -> Deployment:
    return Deployment.objects.get(pk=deployment.pk)


def promoted(deployment, version, by, **fields):
    """Promote as a person who has just looked."""
    return promote(deployment=now(deployment), version=version, by=by, seen_epoch=now(deployment).epoch, **fields)


def test_a_loaded_version_that_passed_answers_from_the_next_epoch_on(deployment, project, admin, tmp_path):
    first, second = make_passing(project, tmp_path), make_passing(project, tmp_path)
    promoted(deployment, first, admin)

    done = promoted(deployment, second, admin, reason="fewer repetitions")

    assert (done.deployment.version, done.deployment.epoch, done.deployment.pending) == (second, 2, None)
    event = done.event
    assert (event.action, event.version, event.previous, event.by) == ("promote", second, first, admin)
    assert (event.reason, event.audit, event.epoch) == ("fewer repetitions", second.audits.get(), 2)
    assert event.switch_seconds >= 0
    states = dict(Version.objects.values_list("pk", "state"))
    assert states == {first.pk: "retired", second.pk: "promoted"}


@pytest.mark.parametrize(
    "spoiled", [{"repetition": {"value": 0.5}}, {"win_rate": {"low": 0.4}}, {"calibration_error": {"value": 0.06}}]
)
def test_a_version_that_did_not_pass_needs_a_reason_from_a_named_person(deployment, project, admin, tmp_path, spoiled):
    version = make_policy(project, tmp_path)
    audit(version, tmp_path, **spoiled)

    for by, reason in [(admin, ""), (admin, "  "), (None, "because")]:
        with pytest.raises(switches.ReasonRequired, match=r"The gate of .* says"):
            promoted(deployment, version, by, reason=reason)

    assert now(deployment).epoch == 0
    assert promoted(deployment, version, admin, reason="a demo").event.reason == "a demo"


def test_a_version_nobody_measured_needs_a_reason_too(deployment, project, admin, tmp_path):
    with pytest.raises(switches.ReasonRequired, match="no-evidence"):
        promoted(deployment, make_policy(project, tmp_path), admin)


def test_only_a_policy_of_the_same_project_is_promoted(deployment, project, admin, tmp_path):
    reward = make_policy(project, tmp_path, kind="reward")
    foreign = make_policy(make_project(), tmp_path)

    with pytest.raises(switches.NotAPolicy, match="reward model"):
        promoted(deployment, reward, admin, reason="why not")
    with pytest.raises(switches.NotAPolicy, match="another project"):
        promoted(deployment, foreign, admin, reason="why not")


def test_what_answers_already_is_not_promoted_again(deployment, project, admin, tmp_path):
    version = make_passing(project, tmp_path)
    promoted(deployment, version, admin)

    with pytest.raises(switches.AlreadyServed):
        promoted(deployment, version, admin)
    assert DeploymentEvent.objects.count() == 1


def test_a_checkpoint_whose_bytes_changed_is_refused_by_name_of_the_file(deployment, project, admin, tmp_path):
    version = make_passing(project, tmp_path)
    weights = next(tmp_path.glob("checkpoint-*/model.safetensors"))
    weights.write_text("poisoned")

    with pytest.raises(switches.ArtifactChanged, match=r"model\.safetensors"):
        promoted(deployment, version, admin)
    with pytest.raises(switches.ArtifactChanged):
        promoted(deployment, make_version(project), admin, reason="its directory never existed")


def test_a_person_who_saw_an_older_epoch_is_told_so(deployment, project, admin, tmp_path):
    first, second = make_passing(project, tmp_path), make_passing(project, tmp_path)
    seen = now(deployment).epoch
    promoted(deployment, first, admin)

    with pytest.raises(switches.StaleEpoch, match="epoch 1"):
        promote(deployment=deployment, version=second, by=admin, seen_epoch=seen)
    with pytest.raises(switches.StaleEpoch):
        promote(deployment=now(deployment), version=second, by=admin, seen_epoch=9)
    assert now(deployment).version == first


def test_a_rollback_goes_to_the_version_before_and_a_second_one_undoes_it(deployment, project, admin, tmp_path):
    first, second = make_passing(project, tmp_path), make_passing(project, tmp_path)
    promoted(deployment, first, admin)
    promoted(deployment, second, admin)

    back = rollback(deployment=now(deployment), by=admin, reason="it rambles", seen_epoch=2)
    assert (back.deployment.version, back.event.action, back.event.reason) == (first, "rollback", "it rambles")
    assert Version.objects.get(pk=second.pk).state == "retired"

    again = rollback(deployment=now(deployment), by=admin, seen_epoch=3)
    assert (again.deployment.version, again.event.epoch) == (second, 4)
    assert Version.objects.get(pk=second.pk).state == "promoted"


def test_a_new_projects_first_version_answers_without_waiting_for_an_engine(project, admin, tmp_path):
    first, other = (make_policy(project, tmp_path, loaded=False) for _ in range(2))
    with pytest.raises(switches.ReasonRequired):
        found_alias(project=project, version=first, by=admin, reason="")

    event = found_alias(project=project, version=first, by=admin, reason="where we begin")

    assert (event.epoch, event.version, event.by, event.reason) == (1, first, admin, "where we begin")
    assert found_alias(project=project, version=other, by=admin, reason="again") is None
    assert deployment_of(project).version == first


def test_without_an_earlier_version_nothing_is_rolled_back(deployment, project, admin, tmp_path):
    with pytest.raises(switches.NothingToRollBack):
        rollback(deployment=deployment, by=admin, seen_epoch=0)
    promoted(deployment, make_passing(project, tmp_path), admin)
    with pytest.raises(switches.NothingToRollBack):
        rollback(deployment=now(deployment), by=admin, seen_epoch=1)


def test_a_version_the_engine_has_not_loaded_waits_and_the_old_one_answers(deployment, project, admin, tmp_path):
    old, new = make_passing(project, tmp_path), make_passing(project, tmp_path, loaded=False)
    promoted(deployment, old, admin)

    done = promoted(deployment, new, admin, reason="better")

    assert done.event is None
    assert (done.deployment.version, done.deployment.pending, done.deployment.epoch) == (old, new, 1)
    assert activate_pending(deployment) is None  # not loaded yet, so the epoch stays

    EngineVersion.objects.create(version=new, state="ready")
    event = activate_pending(deployment)

    assert (event.epoch, event.version, event.previous, event.by, event.reason) == (2, new, old, admin, "better")
    assert (now(deployment).version, now(deployment).pending) == (new, None)
    assert activate_pending(deployment) is None


def test_while_a_version_is_loading_no_other_switch_begins(deployment, project, admin, tmp_path):
    old, new = make_passing(project, tmp_path), make_passing(project, tmp_path, loaded=False)
    promoted(deployment, old, admin)
    promoted(deployment, make_passing(project, tmp_path), admin)
    promoted(deployment, new, admin)

    for switch in (
        lambda: promoted(deployment, old, admin),
        lambda: promoted(deployment, new, admin),
        lambda: rollback(deployment=now(deployment), by=admin, seen_epoch=2),
    ):
        with pytest.raises(switches.SwitchPending, match="cancel"):
            switch()

    assert cancel_pending(deployment=deployment)
    assert not cancel_pending(deployment=deployment)
    assert promoted(deployment, old, admin).event.epoch == 3


def test_a_cancelled_switch_is_not_carried_out_later(deployment, project, admin, tmp_path):
    new = make_passing(project, tmp_path, loaded=False)
    promoted(deployment, new, admin)
    cancel_pending(deployment=deployment)
    EngineVersion.objects.create(version=new, state="ready")

    assert activate_pending(deployment) is None
    assert now(deployment).epoch == 0


def test_a_version_that_could_not_be_loaded_leaves_the_error_to_read(deployment, project, admin, tmp_path):
    new, other = make_passing(project, tmp_path, loaded=False), make_passing(project, tmp_path)
    promoted(deployment, new, admin)

    assert not fail_pending(deployment, version=other, error="not the one that waits")
    assert fail_pending(deployment, version=new, error="out of memory")

    assert (now(deployment).pending, now(deployment).pending_error) == (None, "out of memory")
    promoted(deployment, other, admin)
    assert now(deployment).pending_error == ""


def test_the_database_refuses_a_pending_version_without_a_date(deployment, project, tmp_path):
    with pytest.raises(IntegrityError, match="pending_switch"), transaction.atomic():
        Deployment.objects.filter(pk=deployment.pk).update(pending=make_version(project))


def test_the_engine_holds_what_answers_then_what_waits_then_the_likely(deployment, project, admin, tmp_path):
    first, second = make_passing(project, tmp_path), make_passing(project, tmp_path)
    assert wanted_versions(project) == [second]  # nothing promoted yet: the newest candidate
    promoted(deployment, first, admin)
    promoted(deployment, second, admin)
    make_policy(project, tmp_path, kind="reward")
    assert wanted_versions(project) == [second, first]

    newer = make_passing(project, tmp_path, loaded=False)
    assert wanted_versions(project) == [second, newer, first]
    promoted(deployment, newer, admin)
    assert wanted_versions(project) == [second, newer, first]

    other = make_project()
    theirs = make_passing(other, tmp_path)
    promoted(deployment_of(other), theirs, admin)
    assert wanted_versions()[:3] == [second, theirs, newer]


def test_a_candidate_that_was_passed_over_comes_after_the_rollback_target(deployment, project, admin, tmp_path):
    first, passed_over, second = (make_passing(project, tmp_path) for _ in range(3))
    promoted(deployment, first, admin)
    promoted(deployment, second, admin)

    assert wanted_versions(project) == [second, first, passed_over]
