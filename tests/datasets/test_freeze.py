"""A snapshot holds what stands, split by group, in bytes that depend on the data alone."""

import json
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from alignment.manifest import ArtifactError, split_of, verify
from labelapp.datasets import freeze
from labelapp.datasets.actions import DestinationTaken, NothingToFreeze, export_snapshot, freeze_snapshot
from labelapp.models import Comparison, Judgment, Snapshot
from tests.datasets.rows import take, vote
from tests.factories import make_project, make_user

GROUPS = [f"debate {n}" for n in range(40)]
TRAIN = [name for name in GROUPS if split_of(name, 0.2) == "train"]
TEST = [name for name in GROUPS if split_of(name, 0.2) == "test"]


@pytest.fixture
def artifacts(settings, tmp_path):
    settings.ARTIFACT_DIR = tmp_path
    return tmp_path


@pytest.fixture
def project(db, artifacts):
    """Two train debates and a test debate, each with a decided pair."""
    project = make_project("debates")
    vote(project, "aab", group=TRAIN[0])
    vote(project, "bbbe", group=TRAIN[1], strength=2)
    vote(project, "b", group=TEST[0])
    return project


def rows(snapshot: Snapshot, name: str) -> list[dict]:
    return [json.loads(line) for line in (Path(snapshot.path) / name).read_text().splitlines()]


def test_a_snapshot_is_a_verified_directory_named_by_its_digest(project, artifacts):
    admin = make_user()
    snapshot = freeze_snapshot(project=project, by=admin)
    assert Path(snapshot.path) == artifacts / "snapshots" / snapshot.digest
    assert verify(snapshot.path, snapshot.digest) == snapshot.manifest
    assert set(snapshot.manifest["files"]) == {"pairs-train.jsonl", "pairs-test.jsonl", "judgments.jsonl"}
    assert (snapshot.pairs_train, snapshot.pairs_test, snapshot.judgments) == (2, 1, 8)
    assert snapshot.created_by == admin
    assert list((artifacts / "snapshots").iterdir()) == [Path(snapshot.path)]


def test_a_pairs_row_is_a_preference_in_contract_form(project):
    row = rows(freeze_snapshot(project=project, by=None), "pairs-train.jsonl")[1]
    assert row["prompt"] == [{"role": "user", "content": f"Argue for {TRAIN[1]}."}]
    assert row["chosen"] == [{"role": "assistant", "content": f"{TRAIN[1]}: the second and longer way."}]
    assert row["rejected"] == [{"role": "assistant", "content": f"{TRAIN[1]}: the first way."}]
    assert row["margin"] == pytest.approx(2 / 3, abs=1e-6) and row["group"] == TRAIN[1]
    assert (row["votes_chosen"], row["votes_rejected"], row["votes_tie"]) == (3, 0, 1)
    assert row["comparison"] == Comparison.objects.get(prompt__group=TRAIN[1]).pk


def test_groups_stay_whole(project):
    snapshot = freeze_snapshot(project=project, by=None)
    groups = {split: {row["group"] for row in rows(snapshot, f"pairs-{split}.jsonl")} for split in ("train", "test")}
    assert groups == {"train": set(TRAIN[:2]), "test": {TEST[0]}}
    assert snapshot.manifest["split"]["group_names"] == {"train": sorted(TRAIN[:2]), "test": [TEST[0]]}
    assert all(row["split"] == split_of(row["group"], 0.2) for row in rows(snapshot, "judgments.jsonl"))


def test_ties_and_rankings_are_in_the_judgments_alone(project):
    vote(project, "ex", group=TRAIN[2])
    completions = [f"way {n}" for n in range(4)]
    ranking = {"prompt": "Rank.", "completions": completions, "ranking": [[3], [0, 1], [2]], "group": TRAIN[3]}
    take(project, ranking)
    snapshot = freeze_snapshot(project=project, by=None)
    judgments = [row for row in rows(snapshot, "judgments.jsonl") if row["group"] in TRAIN[2:4]]
    assert [row["both_bad"] for row in judgments[:2]] == [False, True]
    assert judgments[0]["ranking"] == [[0, 1]] and judgments[1]["ranking"] is None
    best = judgments[2]["completions"][judgments[2]["ranking"][0][0]]
    assert best == "way 3" and len(judgments[2]["ranking"]) == 3
    assert len(rows(snapshot, "pairs-train.jsonl")) == 2 + 5
    assert snapshot.manifest["counts"]["undecided_pairs"] == 2


def test_what_was_revised_or_withdrawn_is_left_out(project):
    revised, withdrawn = Judgment.objects.filter(comparison__prompt__group=TRAIN[0]).order_by("pk")[:2]
    again = follow(revised, ranking=[[0], [1]])
    follow(withdrawn, withdrawn=True)
    found = {row["judgment"]: row for row in rows(freeze_snapshot(project=project, by=None), "judgments.jsonl")}
    assert not {revised.pk, withdrawn.pk} & found.keys()
    assert found[again.pk]["replaces"] == revised.pk


def follow(judgment: Judgment, **answer) -> Judgment:
    return Judgment.objects.create(
        comparison=judgment.comparison,
        external_annotator=judgment.external_annotator,
        protocol=judgment.protocol,
        submission_id=uuid4(),
        body_hash="x",
        replaces=judgment,
        **answer,
    )


def test_the_same_data_give_the_same_snapshot(project):
    first, second = (freeze_snapshot(project=project, by=make_user()) for _ in range(2))
    assert first == second and Snapshot.objects.count() == 1


def test_one_more_judgment_gives_another_digest_and_leaves_the_first_alone(project):
    first = freeze_snapshot(project=project, by=None)
    vote(project, "a", group=TRAIN[5])
    second = freeze_snapshot(project=project, by=None)
    assert first.digest != second.digest
    assert verify(first.path, first.digest) and verify(second.path, second.digest)


def test_a_train_prompt_that_reads_like_a_test_prompt_is_left_out(project):
    vote(project, "a", group=TRAIN[4], prompt=f"  argue   for {TEST[0].upper()}.")
    snapshot = freeze_snapshot(project=project, by=None)
    assert snapshot.manifest["counts"]["train_prompts_left_out"] == 1
    assert snapshot.manifest["counts"]["judgments_left_out"] == 1
    assert TRAIN[4] not in {row["group"] for row in rows(snapshot, "judgments.jsonl")}


def test_a_changed_file_is_noticed_when_the_same_data_are_frozen_again(project):
    snapshot = freeze_snapshot(project=project, by=None)
    with open(Path(snapshot.path) / "pairs-train.jsonl", "a") as file:
        file.write("{}\n")
    with pytest.raises(ArtifactError, match=r"pairs-train\.jsonl has SHA-256"):
        freeze_snapshot(project=project, by=None)
    with pytest.raises(CommandError, match=r"pairs-train\.jsonl has SHA-256"):
        call_command("freeze", project.slug)


def test_a_failure_leaves_nothing_that_could_be_cited(project, artifacts, monkeypatch):
    def fail(*_):
        raise OSError("no space left on the disk")

    monkeypatch.setattr(freeze, "pair_row", fail)
    with pytest.raises(OSError, match="no space"):
        freeze_snapshot(project=project, by=None)
    with pytest.raises(CommandError, match="no space"):
        call_command("freeze", project.slug)
    assert not Snapshot.objects.exists() and not list((artifacts / "snapshots").iterdir())


def test_nothing_to_freeze_says_what_is_missing(db, artifacts):
    project = make_project()
    with pytest.raises(NothingToFreeze, match="no judgment yet"):
        freeze_snapshot(project=project, by=None)
    vote(project, "e", group=TRAIN[0])
    with pytest.raises(NothingToFreeze, match="none of the 1 judgments decides"):
        freeze_snapshot(project=project, by=None)
    vote(project, "a", group=TRAIN[1])
    with pytest.raises(NothingToFreeze, match="no decided pair falls into the test split"):
        freeze_snapshot(project=project, by=None)
    vote(project, "a", group=TEST[1])
    assert freeze_snapshot(project=project, by=None).pairs_test == 1


def test_label_statistics_are_in_the_manifest(project):
    metrics = {row["key"]: row for row in freeze_snapshot(project=project, by=None).manifest["statistics"]}
    assert metrics["longer_wins"]["value"] == pytest.approx(2 / 3, abs=1e-6)
    assert metrics["tie_rate"]["n"] == 8 and metrics["first_shown_wins"]["value"] is None
    assert metrics["agreement_alpha"]["n"] == 7


def test_no_login_leaves_with_the_data(project):
    snapshot = freeze_snapshot(project=project, by=make_user("secret-login"))
    for file in Path(snapshot.path).iterdir():
        assert "secret-login" not in file.read_text()


def test_the_judgments_file_can_be_imported_again(project, artifacts):
    snapshot = freeze_snapshot(project=project, by=None)
    copy = make_project("copy")
    call_command("import", "copy", f"{snapshot.path}/judgments.jsonl")
    again = freeze_snapshot(project=copy, by=None)
    for name in ("pairs-train.jsonl", "pairs-test.jsonl"):
        drop = ("comparison",)
        one, other = (
            [{key: row[key] for key in row if key not in drop} for row in rows(each, name)]
            for each in (snapshot, again)
        )
        assert sorted(one, key=str) == sorted(other, key=str)


def test_an_export_is_a_verified_copy(project, tmp_path):
    snapshot = freeze_snapshot(project=project, by=None)
    call_command("export", "debates", snapshot.digest[:8], str(tmp_path / "copy"))
    assert verify(tmp_path / "copy", snapshot.digest)
    with pytest.raises(DestinationTaken, match="not empty"):
        export_snapshot(snapshot=snapshot, destination=tmp_path / "copy")
    with pytest.raises(CommandError, match="no single snapshot"):
        call_command("export", "debates", "0" * 8, str(tmp_path / "other"))


def test_the_commands_speak_json(project, capsys, tmp_path):
    call_command("freeze", "debates", "--json")
    frozen = json.loads(capsys.readouterr().out)
    assert frozen["pairs_train"] == 2 and verify(frozen["path"], frozen["digest"])
    call_command("export", "debates", frozen["digest"], str(tmp_path / "x"), "--json")
    assert len(json.loads(capsys.readouterr().out)["files"]) == 3
    with pytest.raises(CommandError, match="no project 'other'"):
        call_command("freeze", "other")


@pytest.mark.django_db(transaction=True)
def test_writes_during_a_freeze_are_all_in_or_all_out(artifacts, monkeypatch):
    project = make_project()
    for name in (*TRAIN[:3], TEST[0]):
        vote(project, "aab", group=name)
    before = Judgment.objects.count()
    reading, write = threading.Event(), freeze._write_comparison

    def write_slowly(*given):
        reading.set()
        writer.join()
        write(*given)

    def judge_meanwhile():
        reading.wait(20)
        vote(project, "bbbbb", group=TRAIN[3])
        vote(project, "aabbb", group=TRAIN[2])  # the first three have judged this already
        connections.close_all()

    monkeypatch.setattr(freeze, "_write_comparison", write_slowly)
    writer = threading.Thread(target=judge_meanwhile)
    writer.start()
    snapshot = freeze_snapshot(project=project, by=None)
    assert snapshot.judgments == before == 12
    assert TRAIN[3] not in snapshot.manifest["split"]["group_names"]["train"]
    assert freeze_snapshot(project=project, by=None).judgments > before


@pytest.mark.django_db(transaction=True)
def test_a_freeze_cannot_be_put_into_a_transaction_that_reads_on(artifacts):
    from django.db import transaction

    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        freeze_snapshot(project=make_project(), by=None)
    assert not connection.in_atomic_block
