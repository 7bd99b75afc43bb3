"""What the engine holds follows the tables, and a switch only ever points at what is held."""

import pytest
from django.utils import timezone

from labelapp.models import Deployment, EngineVersion, Version
from labelapp.rounds.promote import is_loaded
from labelapp.serving import keeper as keeping
from labelapp.serving.keeper import Keeper
from labelapp.serving.shelf import Shelf, fitting
from tests.factories import make_project, make_version

pytestmark = pytest.mark.django_db


class Refused(Exception):
    pass


class Stub:
    load_seconds, canary = 0.5, "c" * 64


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def keeper():
    """A keeper whose versions load unless their path says otherwise."""

    def load(path: str, digest: str) -> Stub:
        if path.endswith("damaged"):
            raise Refused("model.safetensors has another SHA-256")
        return Stub()

    return Keeper(shelf=Shelf(), load=load, refusal=Refused, budget=2**40)


def wait_for(project, pending, **fields) -> Deployment:
    """A deployment whose switch to the pending version waits for the engine."""
    waiting = {"pending": pending, "pending_since": timezone.now(), "pending_action": "promote"}
    return Deployment.objects.create(project=project, alias="policy", **waiting, **fields)


def test_a_waiting_switch_happens_when_the_version_is_held(keeper, project):
    version = make_version(project)
    deployment = wait_for(project, version)

    keeper.poll()

    deployment.refresh_from_db()
    assert (deployment.version, deployment.pending, deployment.epoch) == (version, None, 1)
    row = EngineVersion.objects.get(version=version)
    assert (row.state, row.load_seconds, row.canary) == ("ready", 0.5, "c" * 64)


def test_a_version_that_does_not_load_ends_the_waiting_and_says_why(keeper, project):
    old = make_version(project, state=Version.State.PROMOTED)
    deployment = wait_for(project, make_version(project, path="/damaged"), version=old)

    keeper.poll()

    deployment.refresh_from_db()
    assert deployment.version == old and deployment.pending is None and deployment.epoch == 0
    assert "SHA-256" in deployment.pending_error
    assert EngineVersion.objects.get(version__path="/damaged").state == "failed"
    assert is_loaded(old)


def test_a_switch_that_there_is_no_room_for_does_not_wait_for_ever(keeper, project, tmp_path):
    places = [tmp_path / name for name in ("one", "two", "late")]
    for place in places:
        place.mkdir()
        (place / "model.safetensors").write_bytes(b"x" * 1000)
    for place in places[:2]:
        Deployment.objects.create(project=make_project(), version=make_version(project, path=str(place)))
    deployment, keeper.budget = wait_for(project, make_version(project, path=str(places[2]))), 4499

    keeper.poll()

    deployment.refresh_from_db()
    assert deployment.pending is None and "no room" in deployment.pending_error


@pytest.mark.faults
def test_a_damaged_version_is_not_tried_again_at_every_look(keeper, project):
    Deployment.objects.create(project=project, version=make_version(project, path="/damaged"))
    keeper.poll()
    first = EngineVersion.objects.get().updated_at

    keeper.poll()

    assert EngineVersion.objects.get().updated_at == first


def test_a_row_that_somebody_lost_is_written_again(keeper, project):
    version = make_version(project)
    Deployment.objects.create(project=project, version=version)
    keeper.poll()
    EngineVersion.objects.all().delete()

    keeper.poll()

    assert is_loaded(version)


def test_an_unwanted_version_is_undeclared_at_once_and_held_through_the_grace(keeper, project, monkeypatch):
    old = make_version(project, state=Version.State.RETIRED)
    new = make_version(project, state=Version.State.PROMOTED)
    deployment = Deployment.objects.create(project=project, version=old)
    keeper.poll()
    deployment.version = new
    deployment.save()

    keeper.poll()
    assert not is_loaded(old) and keeper.shelf.get(old.digest)

    monkeypatch.setattr(keeping, "GRACE_SECONDS", -1)
    keeper.poll()
    assert keeper.shelf.get(old.digest) is None and is_loaded(new)


def test_a_version_wanted_again_within_the_grace_is_declared_without_loading(keeper, project):
    old, new = (make_version(project, state=Version.State.PROMOTED) for _ in range(2))
    deployment = Deployment.objects.create(project=project, version=old)
    keeper.poll()
    held = keeper.shelf.get(old.digest)
    for version in (new, old):
        Deployment.objects.filter(pk=deployment.pk).update(version=version)
        keeper.poll()

    assert is_loaded(old) and keeper.shelf.get(old.digest) is held
    assert keeper.unwanted_since.keys() == {new.digest}


def test_two_versions_are_held_however_little_room_there_is(project, tmp_path):
    versions = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "model.safetensors").write_bytes(b"x" * 1000)
        versions.append(make_version(project, path=str(tmp_path / str(number))))

    assert fitting(versions, budget=0) == versions[:2]
    assert fitting(versions, budget=4499) == versions[:2]
    assert fitting(versions, budget=4500) == versions  # three times 1000 bytes and half as much again
