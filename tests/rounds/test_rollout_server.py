"""A round whose rollout server is away waits for it, an attempt at a time, and then fails with what to do."""

import socket

import pytest

from labelapp.models import Round
from labelapp.rounds import lease
from labelapp.rounds.actions import queue_round, request_cancel
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project, make_user
from tests.rounds.material import TINY, make_parent, make_snapshot

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def round(tmp_path):
    """A round of one stage that samples from a server where none is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = {"url": f"http://127.0.0.1:{port}", "directory": str(tmp_path / "weights"), "patience_seconds": 0}
    config = {
        "sampling": {"prompts": 2, "completions": 2, "max_new_tokens": 4, "server": server},
        "reward": {"terms": [{"kind": "contains", "pattern": "e"}]},
        "optimization": {**TINY, "batch_size": 4, "max_steps": 2},
    }
    spec = {"name": "grpo", "stage": "grpo", "config": config, "inputs": {"snapshot": "snapshot", "parent": "parent"}}
    project = make_project()
    return queue_round(
        project=project,
        kind=Round.Kind.TRAINING,
        recipe={"name": "test", "title": "GRPO only", "stages": [spec]},
        snapshot=make_snapshot(project),
        parent=make_parent(project),
    )


def test_a_lost_server_costs_an_attempt_and_then_the_round(round):
    Round.objects.filter(pk=round.pk).update(max_attempts=2)

    supervise_round(round.pk)
    round.refresh_from_db()
    assert (round.state, round.attempt, round.error) == ("queued", 1, "")
    assert "the rollout server http://127.0.0.1" in round.events.get(kind="released").detail["reason"]
    assert round.stages.get().state == "waiting"

    supervise_round(round.pk)
    round.refresh_from_db()
    assert (round.state, round.attempt, round.error_code) == ("failed", 2, "server_lost")
    assert "is lost" in round.error and "docs/rollouts.md" in round.error
    stage = round.stages.get()
    assert stage.state == "failed"
    assert stage.job["resume_from"]  # the second attempt went on from the first one's state


def test_a_round_that_is_to_end_does_not_wait_for_its_server(round):
    claim = lease.claim(round.pk, owner="worker")
    request_cancel(round=round, by=make_user())
    lease.retry(claim, code="server_lost", reason="The server is lost.")
    round.refresh_from_db()
    assert round.state == "cancelled"
