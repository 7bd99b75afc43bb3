"""What may be written here: imports and snapshots."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.db import transaction

from alignment.manifest import verify, write_manifest
from labelapp import storage
from labelapp.datasets.freeze import SPLITS, Counts, write_files
from labelapp.datasets.held import index_snapshot
from labelapp.datasets.imports import (
    NumberedRow,
    batches,
    read_lines,
    read_records,
    refresh_planner_statistics,
    store_rows,
)
from labelapp.datasets.report import Report
from labelapp.models import Project, Snapshot, User

LARGE = 1000  # new rows, from which on the planner's statistics are worth a refresh


class ImportRefused(Exception):
    """Nothing was stored, because some rows are bad. `report` names them."""

    def __init__(self, report: Report) -> None:
        super().__init__(f"{report.bad_rows} of {report.rows} rows are bad; nothing was stored")
        self.report = report


class NoProtocol(Exception):
    """The project does not say yet what is asked of labelers, and every comparison cites that."""


def import_preferences(
    *, project: Project, stream: BinaryIO, source: str, skip_bad: bool = False, max_bytes: int | None = None
) -> Report:
    """Store every row of a preference file once, all or nothing; with skip_bad, all rows but the bad ones.

    One transaction: a killed import leaves nothing, and a repeated one finds everything known.
    Raises ImportRefused, NoProtocol, BadFile.
    """
    report = Report(source=source[:90])
    _store(project, read_lines(stream, report, max_bytes=max_bytes), report, skip_bad)
    return report


def import_records(*, project: Project, records: Iterable[dict], source: str) -> Report:
    """`import_preferences`, all or nothing, for rows that are objects already."""
    report = Report(source=source[:90])
    _store(project, read_records(enumerate(records, 1), report), report, skip_bad=False)
    return report


def _store(project: Project, rows: Iterator[NumberedRow], report: Report, skip_bad: bool) -> None:
    protocol = project.protocol_versions.last()
    if protocol is None:
        raise NoProtocol("the project has no protocol: say first what is asked of labelers")
    with transaction.atomic():
        project.lock()  # one import at a time
        for batch in batches(rows):
            if skip_bad or not report.bad_rows:
                store_rows(project, protocol, batch, report)
        if report.bad_rows and not skip_bad:
            raise ImportRefused(report)
        if report.judgments + report.comparisons >= LARGE:
            refresh_planner_statistics()


class NothingToFreeze(Exception):
    """There are no decided pairs to train on, or none to test on. The message says what is missing."""


def freeze_snapshot(*, project: Project, by: User | None) -> Snapshot:
    """Write all standing judgments to a directory named by its digest; the same data give the same snapshot again.

    A crash leaves a *.partial directory that nothing cites. Raises NothingToFreeze.
    """
    shelf = Path(settings.ARTIFACT_DIR) / "snapshots"
    shelf.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shelf, suffix=".partial") as folder:
        draft = Path(folder) / "files"
        draft.mkdir()
        counts = write_files(project, draft)
        _refuse_if_useless(counts, project)
        digest = write_manifest(draft, kind="snapshot", **counts.facts(project))
        manifest = _publish(draft, shelf / digest, digest)
        storage.keep(shelf / digest, digest)
    with transaction.atomic():
        snapshot, _ = Snapshot.objects.get_or_create(
            project=project,
            digest=digest,
            defaults={
                "path": str(shelf / digest),
                "manifest": manifest,
                "pairs_train": counts.pairs_train,
                "pairs_test": counts.pairs_test,
                "judgments": counts.judgments,
                "created_by": by,
            },
        )
        index_snapshot(snapshot, counts.ids)
    return snapshot


def _refuse_if_useless(counts: Counts, project: Project) -> None:
    if not counts.judgments:
        raise NothingToFreeze("there is no judgment yet: import preferences or let people compare")
    if counts.uncompared:
        return  # ratings and written answers are worth keeping without a pair; whoever launches a round needs pairs
    if not counts.pairs_train and not counts.pairs_test:
        raise NothingToFreeze(f"none of the {counts.judgments} judgments decides a pair: all are ties or undecided")
    for split in SPLITS:
        if not getattr(counts, f"pairs_{split}"):
            groups = sum(map(len, counts.groups.values()))
            raise NothingToFreeze(
                f"no decided pair falls into the {split} split ({groups} groups, {project.test_share:.0%} of them for"
                " testing): more groups are needed, such as more prompts or debates"
            )


def _publish(draft: Path, place: Path, digest: str) -> dict:
    """Move the draft to its final name, once, and return its manifest. What already lies there is checked."""
    try:
        os.rename(draft, place)
    except OSError:
        if not place.is_dir():
            raise
        return verify(place, digest)
    for folder in (place, place.parent):
        _sync(folder)
    return verify(place, digest)


def _sync(folder: Path) -> None:
    """Make names in a directory survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DestinationTaken(Exception):
    """An export does not write over files that are already there."""


def export_snapshot(*, snapshot: Snapshot, destination: Path) -> Path:
    """Copy a snapshot's files, verified before and after. Raises DestinationTaken, ArtifactError."""
    here = storage.at_hand(snapshot.path, snapshot.digest)
    verify(here, snapshot.digest)
    if destination.exists() and any(destination.iterdir()):
        raise DestinationTaken(f"{destination} is not empty")
    shutil.copytree(here, destination, dirs_exist_ok=True)
    verify(destination, snapshot.digest)
    return destination
