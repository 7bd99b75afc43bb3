"""F6, F7, F15: workers, supervisors and cancels at random moments."""

import random

import psutil
import pytest
from django.db.models.functions import Now

from labelapp.models import Round
from labelapp.rounds import lease
from labelapp.rounds.actions import request_cancel
from tests.factories import make_project
from tests.faults.rounds import ENDLESS, reach, states_of, supervised, trainers_of
from tests.rounds.material import queue_reward_round
from tests.rounds.processes import PATIENCE, kill_group, step_of, wait_for, weights_by_hand, weights_of
from tests.servers import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]
moments = random.Random()  # never seeded: every run of the tests tries others
KILLS, CANCELS = 20, 20


def let_the_lease_end(round: Round) -> None:
    """As if its thirty seconds were over."""
    Round.objects.filter(pk=round.pk).update(lease_until=Now())
    lease.reconcile()


def claims_of(round: Round) -> list[int]:
    return [event.detail["attempt"] for event in round.events.filter(kind="claimed")]


@pytest.mark.long
def test_twenty_kills_of_the_worker_end_in_the_weights_of_an_undisturbed_round(celery_worker, tmp_path):
    round = queue_reward_round(make_project(), steps=1500)
    Round.objects.filter(pk=round.pk).update(max_attempts=KILLS + 5)
    told = 0
    for number in range(KILLS):
        worker = celery_worker("training")
        reach(round, told + moments.randint(3, 60))
        told = step_of(round)
        kill_group(worker) if number % 2 else supervisor_of(round).kill()
        wait_until(lambda: not trainers_of(round), what="the trainer's death with its supervisor")
        kill_group(worker)
        let_the_lease_end(round)
    celery_worker("training")
    expected = weights_by_hand(round, tmp_path)
    wait_for(round)
    assert (round.state, round.attempt, round.token) == ("done", KILLS + 1, KILLS + 1), round.error
    assert claims_of(round) == list(range(1, KILLS + 2))
    assert weights_of(round) == expected
    assert [row.step for row in round.stages.get().metric_rows.all()] == list(range(1, 1501))


def supervisor_of(round: Round) -> psutil.Process:
    (trainer,) = trainers_of(round)
    return trainer.parent()


@pytest.mark.long
def test_a_supervisor_that_dies_alone_takes_its_trainer_along_and_its_worker_goes_on_with_the_round(celery_worker):
    round = queue_reward_round(make_project(), steps=1500)
    celery_worker("training")
    reach(round, 3)
    supervisor_of(round).kill()
    wait_until(lambda: not trainers_of(round), what="the trainer's death with its supervisor")
    let_the_lease_end(round)
    most = 0

    def over() -> bool:
        nonlocal most
        most = max(most, len(trainers_of(round)))
        round.refresh_from_db()
        return round.state in ("done", "failed")

    wait_until(over, seconds=2 * PATIENCE, what="the round's end")
    assert (round.state, round.attempt, most) == ("done", 2, 1)
    assert claims_of(round) == [1, 2]


def cancel_in_mid_save() -> float:
    """Cancel a round that saves its state at every step; seconds until it was over."""
    round = queue_reward_round(make_project(), steps=ENDLESS)
    round.recipe["stages"][0]["config"]["optimization"]["checkpoint_every"] = 1
    round.save(update_fields=["recipe"])
    with supervised(round):
        reach(round, moments.randint(1, 20))
        asked = request_cancel(round=round).cancel_requested_at
    assert (round.state, round.stages.get().state) == ("cancelled", "cancelled")
    assert len(states_of(round)) == 1 and not trainers_of(round)
    return (round.finished_at - asked).total_seconds()


@pytest.mark.long
def test_twenty_cancels_in_the_middle_of_a_save_leave_whole_states():
    took = [cancel_in_mid_save() for _ in range(CANCELS)]
    print(f"\na cancel took {max(took):.1f} s at most")
    assert max(took) < 20
