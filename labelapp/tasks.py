"""Every background job: take an id, call one function. The rows hold the state; a message only rings."""

import multiprocessing

from celery import shared_task
from celery.signals import worker_shutting_down

from labelapp.datasets import bulk, counts
from labelapp.labeling.overview import counting as queue_health
from labelapp.rounds import dry_runs, lease, schedule, trials
from labelapp.rounds.notices import outbox
from labelapp.rounds.supervise import supervise_round as supervise

# Made before the pool forks, so that a child that follows a trainer learns that its worker was told to end.
stopping = multiprocessing.Event()


@worker_shutting_down.connect
def stop_supervising(**_) -> None:
    stopping.set()


# Acknowledged early: the row carries the reliability, and a broker may take back a message that is held for hours.
@shared_task(name="labelapp.tasks.supervise_round", acks_late=False)
def supervise_round(round_id: int) -> None:
    supervise(round_id, stopping=stopping.is_set)


@shared_task(name="labelapp.tasks.run_estimate", acks_late=False)
def run_estimate(estimate_id: int) -> None:
    dry_runs.run_estimate(estimate_id)


@shared_task(name="labelapp.tasks.reconcile")
def reconcile() -> None:
    lease.reconcile()


@shared_task(name="labelapp.tasks.count_queues")
def count_queues() -> None:
    queue_health.refresh_all()
    counts.refresh_counts()


@shared_task(name="labelapp.tasks.change_comparisons")
def change_comparisons(change_id: int) -> None:
    bulk.run_change(change_id)


@shared_task(name="labelapp.tasks.change_left_behind")
def change_left_behind() -> None:
    bulk.run_left_behind()


@shared_task(name="labelapp.tasks.launch_scheduled")
def launch_scheduled() -> None:
    schedule.tick()


@shared_task(name="labelapp.tasks.settle_trials")
def settle_trials() -> None:
    trials.settle_all()


@shared_task(name="labelapp.tasks.deliver")
def deliver() -> None:
    outbox.deliver_due()
