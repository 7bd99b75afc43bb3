"""ARTIFACT_STORE: machines that share a bucket and nothing else, uploads that are torn, bytes that flip."""

import hashlib
import json
import threading
from io import StringIO
from pathlib import Path

import obstore
import pytest
from django.core.management import CommandError, call_command

from alignment.manifest import ArtifactError, verify, write_manifest
from labelapp import storage
from labelapp.datasets.actions import export_snapshot, freeze_snapshot
from labelapp.models import Round, Version
from labelapp.rounds import promote, unused
from labelapp.rounds.actions import SnapshotRefused, launch_round, request_cancel
from labelapp.rounds.supervise import supervise_round
from tests.datasets.rows import vote
from tests.factories import make_project, make_user, make_version
from tests.faults.bucket import another_machine, flip_a_byte
from tests.faults.rounds import ENDLESS, reach, supervised
from tests.rounds.material import make_parent, queue_reward_round
from tests.rounds.processes import weights_by_hand, weights_of
from tests.site.filled import SPLITS
from tests.tiny_models import make_tiny_policy

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]


def make_artifact(cache: Path, text: str = "weights") -> tuple[Path, str]:
    place = cache / "models" / text
    (place / "inner").mkdir(parents=True)
    (place / "model.safetensors").write_text(text * 1000)
    (place / "inner" / "notes.txt").write_text("notes")
    return place, write_manifest(place, kind="checkpoint")


def test_an_artifact_comes_back_byte_for_byte_on_a_machine_that_never_had_it(shared):
    place, digest = make_artifact(shared)
    storage.keep(place, digest)
    assert storage.is_kept(digest)
    another_machine(shared)
    assert storage.manifest_at_hand(place, digest)["kind"] == "checkpoint" and not place.exists()
    assert storage.at_hand(place, digest) == str(place)
    verify(place, digest)
    elsewhere = storage.at_hand("/somewhere/else/models/x", digest)
    assert elsewhere == str(shared / "fetched" / digest)
    verify(elsewhere, digest)
    assert not list(shared.rglob("*.partial"))


def test_two_who_need_it_at_once_get_it_whole(shared):
    place, digest = make_artifact(shared)
    storage.keep(place, digest)
    another_machine(shared)
    found, gate = [], threading.Barrier(4)

    def need():
        gate.wait()
        found.append(storage.at_hand(place, digest))

    threads = [threading.Thread(target=need) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == [str(place)] * 4
    verify(place, digest)


def test_a_torn_upload_does_not_count_and_is_made_whole_by_the_next(shared):
    place, digest = make_artifact(shared)
    storage.keep(place, digest)
    obstore.delete(storage.bucket(), f"artifacts/{digest}/manifest.json")  # the last thing that is written
    assert not storage.is_kept(digest)
    storage.keep(place, digest)
    obstore.delete(storage.bucket(), f"artifacts/{digest}/model.safetensors")  # as no upload of ours would leave it
    another_machine(shared)
    with pytest.raises(ArtifactError, match="lacks a file"):
        storage.at_hand(place, digest)
    assert not place.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "manifest.json"])
def test_a_flipped_byte_is_found_before_anything_is_used(shared, name):
    place, digest = make_artifact(shared)
    storage.keep(place, digest)
    flip_a_byte(f"artifacts/{digest}/{name}")
    another_machine(shared)
    with pytest.raises(ArtifactError):
        storage.at_hand(place, digest)
    assert not place.exists() and not list(shared.rglob("*.partial"))


def test_a_manifest_that_points_out_of_its_directory_is_refused(shared):
    place, _ = make_artifact(shared)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"]["../../escaped"] = manifest["files"].pop("model.safetensors")
    (place / "manifest.json").write_text(json.dumps(manifest))
    content = (place / "manifest.json").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    obstore.put(storage.bucket(), f"artifacts/{digest}/manifest.json", content)
    obstore.put(storage.bucket(), f"artifacts/{digest}/inner/notes.txt", b"notes")
    with pytest.raises(ArtifactError, match="outside of it"):
        storage.at_hand(shared / "models" / "other", digest)


def test_a_bucket_that_is_away_is_a_sentence_and_no_launch(shared, settings):
    project = make_project()
    settings.ARTIFACT_STORE_ENDPOINT = "http://127.0.0.1:1"
    place, digest = make_artifact(shared)
    with pytest.raises(storage.StoreAway, match="does not serve us"):
        storage.is_kept(digest)
    version = make_version(project, path=str(place / "gone"))
    with pytest.raises(promote.ArtifactChanged, match="does not serve us"):
        promote.verify_artifact(version)
    with pytest.raises(CommandError, match="does not serve us"):
        call_command("gc", stdout=StringIO())


def test_a_round_goes_on_on_another_machine_to_the_same_weights_and_everything_is_found_there(shared, tmp_path):
    project = make_project()
    parent = shared / "models" / "policy"
    round = queue_reward_round(project, steps=400)
    version = Version.objects.create(
        project=project, kind="policy", name="shared", path=str(parent), digest=make_tiny_policy(parent)
    )
    storage.keep(parent, version.digest)
    Round.objects.filter(pk=round.pk).update(parent=version)
    supervise_round(round.pk, stopping=lambda: round.stages.get().step >= 4)  # a worker that was told to end
    assert storage.kept("states")
    another_machine(shared)

    supervise_round(round.pk)

    round.refresh_from_db()
    stage = round.stages.get()
    assert round.state == "done", round.error
    assert stage.job["resume_from"] == str(shared / "rounds" / str(round.pk) / "1" / "01-reward")
    assert [row.step for row in stage.metric_rows.all()] == list(range(1, 401))
    expected = weights_by_hand(round, tmp_path)
    another_machine(shared)
    made = round.versions.get()
    storage.at_hand(made.path, made.digest)
    assert weights_of(round) == expected
    assert storage.file_at_hand(Path(stage.output) / "result.json").is_file()
    promote.verify_artifact(made)


@pytest.mark.long
def test_a_damaged_state_in_the_bucket_is_passed_over(shared):
    round = queue_reward_round(make_project(), steps=ENDLESS)
    with supervised(round):
        reach(round, 3)
        request_cancel(round=round)
    (state,) = [name for name in storage.kept("states") if name.endswith("/state.safetensors")]
    flip_a_byte(state)
    another_machine(shared)
    folder = shared / "rounds" / str(round.pk) / "1" / "01-reward" / "state"
    (wrong,) = storage.bring_state(folder)
    assert "SHA-256" in wrong and not folder.exists()


def test_a_snapshot_that_another_machine_froze_is_downloaded_exported_and_launched_from(shared, client):
    admin = make_user()
    project = make_project(admin=admin)
    for number, split in enumerate(("train", "test")):
        vote(project, "a", group=SPLITS[split], prompt=f"Argue for number {number}.")
    snapshot, parent = freeze_snapshot(project=project, by=admin), make_parent(project)
    another_machine(shared)
    client.force_login(admin)
    answer = client.get(f"/p/{project.slug}/snapshots/{snapshot.digest}/pairs-train.jsonl")
    assert answer.status_code == 200
    another_machine(shared)
    assert launch_round(project=project, snapshot=snapshot, parent=parent, recipe="reward")
    assert not Path(snapshot.path).exists()  # its manifest was enough
    export_snapshot(snapshot=snapshot, destination=shared / "exported")
    verify(shared / "exported", snapshot.digest)
    flip_a_byte(f"artifacts/{snapshot.digest}/manifest.json")
    another_machine(shared)
    with pytest.raises(SnapshotRefused, match="neither here nor in s3://"):
        launch_round(project=project, snapshot=snapshot, parent=parent, recipe="reward")


def test_gc_removes_from_the_bucket_what_nothing_cites_and_nothing_else(shared):
    project = make_project()
    cited, digest = make_artifact(shared, "cited")
    Version.objects.create(project=project, kind="policy", name="cited", path=str(cited), digest=digest)
    stray, other = make_artifact(shared, "stray")
    storage.keep(cited, digest), storage.keep(stray, other)
    round = queue_reward_round(project, steps=2)
    supervise_round(round.pk)
    left = shared / "rounds" / str(round.pk) / "9" / "01-reward" / "log.txt"
    left.parent.mkdir(parents=True)
    left.write_text("of an attempt that was lost")
    storage.keep_files([left])
    obstore.put(storage.bucket(), "somebody/elses", b"file")
    before = set(storage.kept(""))

    assert unused.find_unused_in_bucket() == []  # all of it is young
    found = {each.path for each in unused.find_unused_in_bucket(young=-5)}
    states = {name for name in found if name.startswith("states/")}
    assert found - states == {f"artifacts/{other}", f"files/{left.relative_to(shared)}"} and len(states) == 1
    call_command("gc", hours=0, stdout=StringIO())
    gone = before - set(storage.kept(""))
    assert all(any(name.startswith(each) for each in found) for name in gone) and len(gone) >= 4
    assert storage.is_kept(digest) and not storage.is_kept(other)
    another_machine(shared)
    made = round.versions.get()
    storage.at_hand(made.path, made.digest)
    verify(made.path, made.digest)
