"""Rounds of one reward stage under a supervisor in a thread of this process, and what their ends must look like."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
from django.db import connection

from alignment.manifest import verify_sealed
from labelapp.models import Round
from labelapp.rounds import lease
from labelapp.rounds.actions import RoundIsOver, request_cancel
from labelapp.rounds.artifacts import round_directory
from labelapp.rounds.supervise import supervise_round
from tests.rounds.processes import PATIENCE, step_of
from tests.servers import wait_until

ENDLESS = 100_000


@contextlib.contextmanager
def supervised(round: Round) -> Iterator[threading.Thread]:
    """A supervisor of the round, which must have ended by itself when the block is left."""

    def run():
        try:
            supervise_round(round.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    except BaseException:
        with contextlib.suppress(RoundIsOver):
            request_cancel(round=round)  # what a failed test leaves must not disturb the next
        raise
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive(), f"round {round.number} did not end"
    round.refresh_from_db()


def reach(round: Round, step: int) -> None:
    def there() -> bool:
        round.refresh_from_db()
        assert round.state in ("queued", "running"), f"{round.state} before step {step}: {round.error}"
        return step_of(round) >= step

    wait_until(there, seconds=PATIENCE, what=f"step {step}")


def trainers_of(round: Round) -> list[psutil.Process]:
    """Living trainers of the round, wherever they run: no launcher and no far end."""
    place = f"{round_directory(round)}/"
    return [p for p in psutil.process_iter(["cmdline"]) if is_trainer(p.info["cmdline"] or [], place)]


def is_trainer(words: list[str], place: str) -> bool:
    return words[1:3] == ["-m", "alignment"] and place in words[-1]


def states_of(round: Round) -> list[Path]:
    """The saved states of all attempts; each must be whole."""
    found = sorted(round_directory(round).glob("*/*/state/state.safetensors"))
    for path in found:
        verify_sealed(path)
    return found


def assert_ended(round: Round, code: str, *says: str) -> None:
    """The round failed under this name, once, with advice, and nothing brings it back."""
    round.refresh_from_db()
    assert (round.state, round.error_code, round.attempt) == ("failed", code, 1), round.error
    for words in says:
        assert words in round.error
    assert not round.versions.exists() and not trainers_of(round)
    assert lease.reconcile() == {"lost": 0, "rung": 0}
    supervise_round(round.pk)
    round.refresh_from_db()
    assert (round.state, round.attempt, round.token) == ("failed", 1, 1)
