"""A snapshot knows which judgments it holds, exactly, whoever judged and withdrew meanwhile."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import IntegrityError, InternalError, transaction
from hypothesis import given
from hypothesis import strategies as st

from labelapp.datasets.actions import freeze_snapshot
from labelapp.datasets.held import held_by, holding, index_earlier, index_snapshot, runs
from labelapp.labeling.actions import undo_last
from labelapp.models import Judgment, Snapshot, SnapshotSource, SnapshotSpan


@given(st.sets(st.integers(0, 60)))
def test_runs_are_exactly_the_numbers_and_never_touch(numbers):
    found = list(runs(numbers))
    assert sorted(n for first, last in found for n in range(first, last + 1)) == sorted(numbers)
    assert all(after[0] > before[1] + 1 for before, after in pairwise(found))


def named(snapshot) -> set[int]:
    return {json.loads(line)["judgment"] for line in (Path(snapshot.path) / "judgments.jsonl").open()}


def test_the_index_names_what_the_files_name(loop):
    assert set(held_by([loop.snapshot.pk]).values_list("pk", flat=True)) == named(loop.snapshot)
    assert len(named(loop.snapshot)) == 10


def test_a_judgment_withdrawn_since_is_in_the_old_snapshot_and_not_in_the_new(loop):
    gone = Judgment.objects.filter(labeler=loop.bob).order_by("-pk").first()
    assert undo_last(project=loop.project, labeler=loop.bob)
    later = freeze_snapshot(project=loop.project, by=None)
    assert holding([gone.pk]) == {gone.pk: {loop.snapshot.pk}}
    assert set(held_by([later.pk]).values_list("pk", flat=True)) == named(later)
    assert gone.pk not in named(later)


def test_sources_say_where_the_judgments_came_from(loop):
    found = {(row.origin, row.round_id): row for row in loop.snapshot.sources.all()}
    ours, imported = found["random", loop.sampling.pk], found["import", None]
    assert (ours.comparisons, ours.judgments, ours.versions) == (3, 6, [loop.base.pk])
    assert (imported.comparisons, imported.judgments, imported.versions) == (2, 4, [])


def test_a_snapshot_is_indexed_once(loop):
    index_snapshot(loop.snapshot, [1, 2, 3])
    assert set(held_by([loop.snapshot.pk]).values_list("pk", flat=True)) == named(loop.snapshot)


def test_snapshots_from_before_the_index_are_read_from_their_files(loop):
    old = Snapshot.objects.create(
        project=loop.project, digest="f" * 64, path=loop.snapshot.path, manifest={}, pairs_train=1, pairs_test=1,
        judgments=10,
    )  # fmt: skip
    Snapshot.objects.create(
        project=loop.project, digest="e" * 64, path="/gone", manifest={}, pairs_train=1, pairs_test=1, judgments=10
    )
    index_earlier(loop.project)
    spans = list(loop.snapshot.spans.values_list("first", "last"))
    assert list(old.spans.values_list("first", "last")) == spans and old.sources.count() == 2


@pytest.mark.parametrize("table", [SnapshotSpan, SnapshotSource])
def test_the_index_is_append_only(loop, table):
    with pytest.raises((IntegrityError, InternalError), match="append-only"), transaction.atomic():
        table.objects.filter(snapshot=loop.snapshot).update(snapshot=loop.snapshot)


def test_a_span_ends_after_it_begins_and_begins_once(loop):
    first = loop.snapshot.spans.first().first
    with pytest.raises(IntegrityError, match="span_ends_after_it_begins"), transaction.atomic():
        SnapshotSpan.objects.create(snapshot=loop.snapshot, first=9_000_002, last=9_000_001)
    with pytest.raises(IntegrityError, match="span_begins_once"), transaction.atomic():
        SnapshotSpan.objects.create(snapshot=loop.snapshot, first=first, last=first)


def test_a_source_stands_once_in_a_snapshot(loop):
    row = loop.snapshot.sources.get(origin="import")
    with pytest.raises(IntegrityError, match="source_once_per_snapshot"), transaction.atomic():
        SnapshotSource.objects.create(
            snapshot=loop.snapshot, origin="import", versions=row.versions, comparisons=1, judgments=1
        )
