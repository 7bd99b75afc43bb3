"""Rounds and deployments against a model of each: whatever happens in whatever order, the rows say what must be so."""

import itertools
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from labelapp.models import Deployment, DeploymentEvent, EngineVersion, MetricRow, Round, Version
from labelapp.rounds import lease, results
from labelapp.rounds.actions import RoundAlreadyActive, RoundIsOver, queue_round, request_cancel
from labelapp.rounds.progress import store
from labelapp.rounds.promote import (
    AlreadyServed,
    NothingToRollBack,
    StaleEpoch,
    SwitchPending,
    activate_pending,
    cancel_pending,
    deployment_of,
    fail_pending,
    promote,
    rollback,
)
from labelapp.serving.keeper import forget_all, note
from tests.factories import make_project, make_user, make_version
from tests.rounds.material import policy_files

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]
SPEC = {"name": "reward", "stage": "reward", "config": {}, "inputs": {}}
MOST_ATTEMPTS = 3
workers, versions, yes = st.sampled_from(["ada", "bob"]), st.integers(0, 2), st.booleans()


def run(machine, request) -> None:
    many = request.config.getoption("faults")
    how = {"max_examples": 150 if many else 12, "stateful_step_count": 40, "deadline": None}
    run_state_machine_as_test(machine, settings=settings(**how, suppress_health_check=list(HealthCheck)))


class RoundMachine(RuleBasedStateMachine):
    """One project's rounds under two workers, which may be lost at any moment and come back late."""

    @initialize()
    def begin(self):
        self.project, self.round, self.over = make_project(), None, {}
        self.state, self.token, self.attempt, self.expired, self.to_cancel = "", 0, 0, False, False
        self.held: dict[str, lease.Claim] = {}

    @property
    def is_active(self) -> bool:
        return self.state in ("queued", "running")

    def holds(self, worker: str) -> bool:
        claim = self.held.get(worker)
        return claim is not None and claim == (self.round.pk, self.token) and self.state == "running"

    def end(self, state: str) -> None:
        self.state = state
        self.over[self.round.pk] = self.row()

    def row(self) -> tuple:
        return Round.objects.values_list("state", "token", "attempt", "finished_at", "error_code").get(pk=self.round.pk)

    @rule()
    def launch(self):
        try:
            self.round = queue_round(
                project=self.project, kind=Round.Kind.TRAINING, recipe={"name": "t", "title": "t", "stages": [SPEC]}
            )
        except RoundAlreadyActive as refusal:
            assert self.is_active and refusal.round == self.round
        else:
            assert not self.is_active
            Round.objects.filter(pk=self.round.pk).update(max_attempts=MOST_ATTEMPTS)
            self.state, self.token, self.attempt, self.expired, self.to_cancel = "queued", 0, 0, False, False

    @rule(worker=workers)
    def claim(self, worker):
        """A message may come late or twice: whoever hears it tries."""
        if self.round is None:
            return
        free = self.state == "queued" or (self.state == "running" and self.expired)
        found = lease.claim(self.round.pk, owner=worker)
        assert (found is not None) == (free and self.attempt < MOST_ATTEMPTS)
        if found:
            self.token, self.attempt, self.state, self.expired = self.token + 1, self.attempt + 1, "running", False
            self.held[worker] = found
            assert found == (self.round.pk, self.token)

    @rule(worker=workers)
    def beat(self, worker):
        if claim := self.held.get(worker):
            assert lease.beat(claim) == self.holds(worker)
            self.expired = self.expired and not self.holds(worker)

    @rule()
    def expire(self):
        if self.state == "running":
            Round.objects.filter(pk=self.round.pk).update(lease_until=Now() - timedelta(seconds=1))
            self.expired = True

    @rule()
    def reconcile(self):
        lease.reconcile()
        if self.state == "running" and self.expired:
            self.lose()

    def lose(self) -> None:
        self.expired = False
        if self.to_cancel:
            self.end("cancelled")
        elif self.attempt < MOST_ATTEMPTS:
            self.state = "queued"
        else:
            self.end("failed")

    @rule()
    def cancel(self):
        if self.round is None:
            return
        try:
            request_cancel(round=self.round)
        except RoundIsOver:
            assert not self.is_active
            return
        assert self.is_active
        if self.state == "queued":
            self.end("cancelled")
        self.to_cancel = True

    def writes(self, worker: str, write) -> bool:
        """Let a worker write; true where it could, which it must exactly where it holds the round."""
        if worker not in self.held:
            return False
        could = self.holds(worker)
        try:
            write(self.held[worker])
        except lease.LeaseLost:
            assert not could
            return False
        assert could
        return True

    @rule(worker=workers, step=st.integers(1, 9))
    def tell(self, worker, step):
        def write(claim):
            with lease.fenced(claim) as round:
                store(round.stages.get(), {step: {"step": step, "token": claim.token}}, first_batch=False)

        before = MetricRow.objects.count()
        if not self.writes(worker, write):
            assert MetricRow.objects.count() == before

    @rule(worker=workers)
    def finish(self, worker):
        if self.writes(worker, results.complete):
            self.end("done")

    @rule(worker=workers)
    def fail(self, worker):
        def write(claim):
            with lease.fenced(claim) as round:
                lease.close(round, "failed", code="crashed", error="It did.")

        if self.writes(worker, write):
            self.end("failed")

    @rule(worker=workers, counts=yes)
    def release(self, worker, counts):
        if not self.writes(worker, lambda claim: lease.release(claim, reason="a test", counts=counts)):
            return
        if counts or self.to_cancel:
            return self.lose()
        self.state, self.attempt, self.expired = "queued", self.attempt - 1, False

    @invariant()
    def the_row_is_as_the_model(self):
        if getattr(self, "round", None) is None:
            return
        row = Round.objects.get(pk=self.round.pk)
        assert (row.state, row.token, row.attempt) == (self.state, self.token, self.attempt)
        assert (row.lease_until is None) == (row.state != "running")
        assert (row.finished_at is None) == self.is_active
        assert (row.error_code != "") == (row.state == "failed")
        assert row.attempt <= MOST_ATTEMPTS

    @invariant()
    def one_round_is_active_and_those_that_are_over_stay_as_they_were(self):
        if not hasattr(self, "project"):
            return
        rows = Round.objects.filter(project=self.project)
        assert rows.filter(state__in=("queued", "running")).count() == self.is_active
        assert list(rows.order_by("number").values_list("number", flat=True)) == list(range(1, rows.count() + 1))
        for pk, was in self.over.items():
            assert rows.values_list("state", "token", "attempt", "finished_at", "error_code").get(pk=pk) == was

    @invariant()
    def the_events_tell_how_it_came_to_be_so(self):
        if getattr(self, "round", None) is None:
            return
        kinds = list(self.round.events.values_list("kind", flat=True))
        assert kinds[0] == "launched" and kinds.count("claimed") == self.token
        after = {"launched": "queued", "claimed": "running", "released": "queued", "lease_expired": "queued"}
        moves = [after.get(kind, kind) for kind in kinds if kind != "cancel_requested"]
        assert moves[-1] == self.state
        for before, now in itertools.pairwise(moves):
            assert before in ("queued", "running") and (now != "queued" or before == "running")


class DeploymentMachine(RuleBasedStateMachine):
    """One alias, three versions, an engine that loads, fails and starts again, and people who looked a while ago."""

    @initialize()
    def begin(self):
        self.project, self.admin = make_project(), make_user()
        path, digest = policy_files()
        self.versions = [make_version(self.project, path=path, digest=digest) for _ in range(3)]
        self.served: list[int] = []  # by epoch, from the first
        self.pending, self.loaded = None, set()
        self.alias = deployment_of(self.project)

    @property
    def now(self) -> int | None:
        return self.served[-1] if self.served else None

    def expected(self, wanted: int, stale: bool):
        """The refusal that a switch must meet; None where it happens or waits."""
        if stale:
            return StaleEpoch
        return SwitchPending if self.pending is not None else None

    def switch(self, wanted: int, refusal, call) -> None:
        if refusal:
            with pytest.raises(refusal):
                call()
            return
        event = call().event
        assert (event is not None) == (wanted in self.loaded)
        if event:
            self.served.append(wanted)
        else:
            self.pending = wanted

    @rule(wanted=versions, stale=yes)
    def promote(self, wanted, stale):
        stale = stale and bool(self.served)
        refusal = AlreadyServed if wanted == self.now else self.expected(wanted, stale)
        ask = {"by": self.admin, "reason": "a test", "seen_epoch": len(self.served) - stale}
        row = Deployment.objects.get(pk=self.alias.pk)
        self.switch(wanted, refusal, lambda: promote(deployment=row, version=self.versions[wanted], **ask))

    @rule(stale=yes)
    def rollback(self, stale):
        seen = len(self.served) - (stale and bool(self.served))
        row = Deployment.objects.get(pk=self.alias.pk)
        wanted = self.served[seen - 2] if seen >= 2 else None
        refusal = NothingToRollBack if wanted is None else self.expected(wanted, seen < len(self.served))
        self.switch(wanted, refusal, lambda: rollback(deployment=row, by=self.admin, seen_epoch=seen))

    @rule(wanted=versions)
    def engine_loads(self, wanted):
        note(self.versions[wanted], EngineVersion.State.READY)
        self.loaded.add(wanted)
        self.look()

    def look(self) -> None:
        """The engine's keeper ends what waits for a version that it holds."""
        event = activate_pending(self.alias)
        moves = self.pending is not None and self.pending in self.loaded
        assert (event is not None) == moves
        if moves:
            self.served.append(self.pending)
            self.pending = None

    @rule(wanted=versions)
    def engine_fails(self, wanted):
        note(self.versions[wanted], EngineVersion.State.FAILED, error="It does not load.")
        self.loaded.discard(wanted)
        gave_up = fail_pending(self.alias, version=self.versions[wanted], error="It does not load.")
        assert gave_up == (self.pending == wanted)
        if gave_up:
            self.pending = None
            assert Deployment.objects.get(pk=self.alias.pk).pending_error == "It does not load."

    @rule()
    def engine_restarts(self):
        forget_all()
        self.loaded = set()
        self.look()

    @rule()
    def give_up(self):
        assert cancel_pending(deployment=self.alias) == (self.pending is not None)
        self.pending = None

    @invariant()
    def the_history_is_one_line_and_its_end_answers(self):
        if not hasattr(self, "alias"):
            return
        row = Deployment.objects.get(pk=self.alias.pk)
        keys = [self.versions[number].pk for number in self.served]
        events = list(DeploymentEvent.objects.filter(deployment=row).order_by("epoch"))
        assert [event.epoch for event in events] == list(range(1, len(keys) + 1))
        assert [event.version_id for event in events] == keys
        assert [event.previous_id for event in events] == [None, *keys][: len(keys)]
        assert all(event.by == self.admin for event in events)
        assert (row.epoch, row.version_id) == (len(keys), keys[-1] if keys else None)
        assert row.pending_id == (None if self.pending is None else self.versions[self.pending].pk)

    @invariant()
    def a_version_says_whether_it_answers(self):
        if not hasattr(self, "alias"):
            return
        for number, version in enumerate(self.versions):
            expected = "promoted" if number == self.now else "retired" if number in self.served else "candidate"
            assert Version.objects.get(pk=version.pk).state == expected


def test_rounds_obey_their_model_under_two_workers(request):
    run(RoundMachine, request)


def test_deployments_obey_their_model_with_an_engine_that_comes_and_goes(request):
    run(DeploymentMachine, request)
