"""The thread that owns the models, with versions that only count."""

import threading
from dataclasses import asdict

import pytest

from labelapp.serving.batcher import Batcher, Work
from labelapp.serving.errors import ApiError
from labelapp.serving.protocol import Sampling
from labelapp.serving.rows import Row, TextFlow


class Counting:
    """A version whose every token is 65; it fails at a given step."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.rows, self.widest, self.steps, self.fail_at = [], 0, 0, fail_at

    def admit(self, rows):
        self.rows += rows

    def step(self):
        self.steps += 1
        if self.steps == self.fail_at:
            raise FloatingPointError("not finite")
        self.rows = [row for row in self.rows if not row.gone]
        self.widest = max(self.widest, len(self.rows))
        for row in self.rows:
            row.take(65, is_end=False)

    def abandon(self):
        self.rows = []


def work(loaded, rows: int = 1, tokens: int = 5) -> tuple[Work, list, threading.Event]:
    """A request and what it hears; the event is set when its last row has ended or it has failed."""
    events, over = [], threading.Event()

    def hear(event):
        events.append(event)
        if event.get("code") or sum("finish" in e for e in events if isinstance(e, dict)) == rows:
            over.set()

    flow = TextFlow(lambda ids: "a" * len(ids), ())
    made = [Row(i, [1], asdict(Sampling()), tokens, None, hear, flow) for i in range(rows)]
    return Work(loaded, made, lambda error: hear({"code": error.code})), events, over


@pytest.fixture
def batcher():
    made = Batcher(active=4, waiting=4)
    yield made
    made.drain(0)


def test_more_rows_than_run_or_wait_are_refused_at_once(batcher):
    loaded = Counting()
    batcher.submit(work(loaded, rows=4)[0])
    batcher.submit(work(loaded, rows=4)[0])

    with pytest.raises(ApiError) as refused:
        batcher.submit(work(loaded)[0])

    assert (refused.value.status, refused.value.code) == (429, "rate_limit_exceeded")
    assert refused.value.retry_after >= 1


def test_a_cancelled_request_makes_room_before_it_ever_ran(batcher):
    loaded = Counting()
    leaving, _, _ = work(loaded, rows=8)
    batcher.submit(leaving)
    leaving.cancel()

    batcher.submit(work(loaded, rows=8)[0])

    assert batcher.load() == 8


def test_rows_beyond_the_active_ones_wait_and_all_finish(batcher):
    loaded = Counting()
    requests = [work(loaded, rows=2) for _ in range(4)]
    for request, _, _ in requests:
        batcher.submit(request)
    batcher.start()

    assert all(over.wait(20) for _, _, over in requests)
    assert loaded.widest == 4
    assert all(row.finished == "length" for request, _, _ in requests for row in request.rows)


def test_a_failing_version_ends_its_own_requests_only(batcher):
    broken, sound = Counting(fail_at=2), Counting()
    first, failed, first_over = work(broken)
    second, _, second_over = work(sound)
    batcher.submit(first)
    batcher.submit(second)
    batcher.start()

    assert first_over.wait(20) and second_over.wait(20)
    assert failed[-1] == {"code": "engine_failed"}
    assert second.rows[0].finished == "length"
    again, _, over = work(broken)
    batcher.submit(again)
    assert over.wait(20) and again.rows[0].finished == "length"


def test_a_draining_engine_takes_nothing_new(batcher):
    batcher.start()
    batcher.drain(1)

    with pytest.raises(ApiError) as refused:
        batcher.submit(work(Counting())[0])

    assert refused.value.status == 503
