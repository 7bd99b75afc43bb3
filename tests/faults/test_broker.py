"""F5: the broker is only a doorbell. Away, it delays the start of rounds and changes nothing else."""

import httpx
import pytest

from labelapp.models import Judgment, Round
from labelapp.rounds.actions import request_cancel
from tests import servers
from tests.factories import add_member, make_comparison, make_project, make_user
from tests.faults.servers import beat, own_broker
from tests.labeling.test_races import fields_of, session_of
from tests.rounds.material import make_parent, make_snapshot
from tests.rounds.processes import wait_for
from tests.rounds.test_launch import form_of, sign_in

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]
SHORT = {"recipe": "reward", "reward.optimization.max_steps": "2", "further": "audit.max_items=2\naudit.bootstrap=100"}


def test_without_its_broker_people_judge_and_launch_and_the_round_starts_when_it_is_back(tmp_path):
    project = make_project()
    make_comparison(project)
    labeler = make_user()
    add_member(project, labeler, "labeler")
    given = {"project": project, "snapshot": make_snapshot(project), "parent": make_parent(project)}
    with own_broker() as (broker, url):
        broker.start()
        with (
            servers.web(tmp_path / "web.log", BROKER_URL=url) as address,
            servers.worker(tmp_path / "worker.log", "default", "training", name="lonely", BROKER_URL=url),
            beat(tmp_path / "beat.log", BROKER_URL=url),
        ):
            broker.stop()
            assert not broker.accepts()
            judge(address, project, labeler)
            with sign_in(project, address) as browser:
                answer = browser.post(f"/p/{project.slug}/rounds/new/", data=form_of(given) | SHORT)
            assert answer.status_code == 302
            round = Round.objects.get()
            assert (round.state, Judgment.objects.count()) == ("queued", 1)
            broker.start()  # it comes back empty: what was rung meanwhile, and before, is lost
            wait_for(round, "running")
            began = round.started_at
            request_cancel(round=round)
            wait_for(round, "cancelled")
    assert (round.state, round.attempt) == ("cancelled", 1)
    print(f"\nthe round began {(began - round.created_at).total_seconds():.1f} s after its launch")


def judge(address: str, project, labeler) -> None:
    page = f"/p/{project.slug}/label/"
    with httpx.Client(base_url=address, cookies=session_of(labeler), timeout=60) as browser:
        form = fields_of(browser.get(page).text)
        assert browser.post(page, data=form | {"answer": "2"}).status_code == 303
