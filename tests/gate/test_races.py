"""Many people move one alias at once. The history stays one line."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from labelapp.models import Deployment, DeploymentEvent, Version
from labelapp.rounds.promote import SwitchRefused, deployment_of, promote, rollback
from tests.factories import make_project, make_user
from tests.gate.rounds import make_passing

THREADS, SWITCHES = 20, 5


@pytest.mark.faults
@pytest.mark.django_db(transaction=True)
def test_twenty_people_promote_and_roll_back_and_the_epochs_have_no_gap(tmp_path):
    admin, project = make_user(), make_project()
    versions = [make_passing(project, tmp_path) for _ in range(4)]
    deployment = deployment_of(project)

    def person(seed: int) -> int:
        chance, moved = random.Random(seed), 0
        for _ in range(SWITCHES):
            seen = Deployment.objects.get(pk=deployment.pk)
            try:
                if chance.random() < 0.4:
                    rollback(deployment=seen, by=admin, seen_epoch=seen.epoch)
                else:
                    promote(deployment=seen, version=chance.choice(versions), by=admin, seen_epoch=seen.epoch)
                moved += 1
            except SwitchRefused:
                pass
        connection.close()
        return moved

    with ThreadPoolExecutor(THREADS) as people:
        moved = sum(people.map(person, range(THREADS)))

    history = list(DeploymentEvent.objects.filter(deployment=deployment).order_by("epoch"))
    now = Deployment.objects.get(pk=deployment.pk)
    assert 1 < moved == len(history) == now.epoch
    assert [event.epoch for event in history] == list(range(1, moved + 1))
    assert history[0].previous is None
    assert [event.previous_id for event in history[1:]] == [event.version_id for event in history[:-1]]
    assert now.version_id == history[-1].version_id
    assert list(Version.objects.filter(state="promoted")) == [now.version]


@pytest.mark.faults
@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_saw_the_same_epoch_one_is_refused(tmp_path):
    admin, project = make_user(), make_project()
    versions = [make_passing(project, tmp_path) for _ in range(8)]
    deployment = deployment_of(project)

    def person(version: Version) -> bool:
        try:
            promote(deployment=deployment, version=version, by=admin, seen_epoch=0)
            return True
        except SwitchRefused:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(len(versions)) as people:
        assert sum(people.map(person, versions)) == 1
    assert DeploymentEvent.objects.get().epoch == 1
