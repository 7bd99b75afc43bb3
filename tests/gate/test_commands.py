"""The shell does what the pages do, with the same refusals."""

import json
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from labelapp.models import Deployment, DeploymentEvent, EngineVersion, Round
from labelapp.rounds.promote import activate_pending, cancel_pending
from tests.factories import make_project, make_prompt, make_user
from tests.gate.rounds import audit, make_passing, make_policy


@pytest.fixture
def admin(db):
    return make_user("ada")


@pytest.fixture
def project(admin):
    return make_project("arguments", admin=admin)


def run(capsys, *arguments: str) -> dict:
    call_command(*arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_a_version_is_promoted_and_rolled_back_from_the_shell(capsys, project, admin, tmp_path):
    first, second = make_passing(project, tmp_path), make_passing(project, tmp_path)

    call_command("promote", "arguments", first.name)
    assert f"policy answers from {first.name} since epoch 1" in capsys.readouterr().out
    found = run(capsys, "promote", "arguments", second.name, "--by", "ada", "--reason", "shorter")
    assert found.pop("switch_seconds") >= 0
    assert found == {"alias": "policy", "epoch": 2, "version": second.name, "previous": first.name, "pending": None}

    assert run(capsys, "rollback", "arguments", "--by", "ada", "--reason", "rambles")["version"] == first.name
    events = DeploymentEvent.objects.values_list("epoch", "action", "by__username", "reason")
    assert list(events) == [
        (3, "rollback", "ada", "rambles"), (2, "promote", "ada", "shorter"), (1, "promote", None, "")
    ]  # fmt: skip


def test_the_shell_is_refused_what_the_page_is_refused(project, tmp_path):
    weak = make_policy(project, tmp_path)
    audit(weak, tmp_path, repetition={"value": 0.4})

    for arguments, says in [
        (["promote", "arguments", weak.name], "only a named person"),
        (["promote", "arguments", weak.name, "--by", "ada"], "give a reason"),
        (["promote", "arguments", weak.name, "--by", "nobody", "--reason", "x"], "no active user 'nobody'"),
        (["promote", "arguments", "policy-x"], "has no version 'policy-x'"),
        (["promote", "elsewhere", weak.name], "no project 'elsewhere'; there is arguments"),
        (["promote", "arguments", weak.name, "--by", "ada", "--reason", "x", "--epoch", "4"], "since you saw epoch 4"),
        (["rollback", "arguments"], "promote another instead"),
        (["sample", "arguments"], "promote a version first"),
        (["versions", "elsewhere"], "no project"),
    ]:
        with pytest.raises(CommandError, match=says):
            call_command(*arguments)
    assert not DeploymentEvent.objects.exists()


def test_a_waiting_switch_is_given_up_from_the_shell(capsys, project, tmp_path):
    version = make_passing(project, tmp_path)
    EngineVersion.objects.all().delete()
    assert run(capsys, "promote", "arguments", version.name)["pending"] == version.name
    assert run(capsys, "rollback", "arguments", "--cancel-pending")["pending"] is None
    assert Deployment.objects.get().pending is None
    with pytest.raises(CommandError, match="No switch is waiting"):
        call_command("rollback", "arguments", "--cancel-pending")


def test_the_versions_are_listed_with_figures_and_verdicts(capsys, project, admin, tmp_path):
    parent, version = make_policy(project, tmp_path), make_passing(project, tmp_path)
    call_command("promote", "arguments", version.name)
    capsys.readouterr()

    found = run(capsys, "versions", "arguments")
    assert found["deployment"] == {"alias": "policy", "epoch": 1, "version": version.name, "pending": None}
    rows = {row["name"]: row for row in found["versions"]}
    assert rows[version.name]["metrics"]["win_rate"]["low"] == 0.54
    assert (rows[version.name]["verdict"], rows[parent.name]["verdict"]) == ("pass", "no-evidence")

    call_command("versions", "arguments")
    said = capsys.readouterr().out
    assert f"policy answers from {version.name} (epoch 1)" in said
    assert "win rate against the parent 58.0 % [54.0, 62.0]" in said


def test_sampling_from_the_shell_queues_a_round(capsys, project, tmp_path):
    make_prompt(project, fresh=True)
    call_command("promote", "arguments", make_passing(project, tmp_path).name)
    capsys.readouterr()

    found = run(capsys, "sample", "arguments", "-n", "5", "--seed", "4", "--by", "ada")

    round = Round.objects.get(kind="sampling")
    assert found == {
        "round": round.number, "state": "queued", "seed": 4, "prompts": 1, "propensity": 1.0, "collected": None
    }  # fmt: skip
    assert round.created_by.username == "ada"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("loads", [True, False])
def test_the_shell_can_wait_for_the_engine(capsys, project, tmp_path, loads):
    version = make_passing(project, tmp_path, loaded=False)

    def engine():
        try:
            while not (waiting := Deployment.objects.filter(pending=version).first()):
                pass
            if loads:
                EngineVersion.objects.create(version=version, state="ready")
                activate_pending(waiting)
            else:
                cancel_pending(deployment=waiting)
        finally:
            connection.close()

    thread = threading.Thread(target=engine, daemon=True)
    thread.start()
    if loads:
        assert run(capsys, "promote", "arguments", version.name, "--wait")["epoch"] == 1
    else:
        with pytest.raises(CommandError, match="cancelled by somebody else"):
            call_command("promote", "arguments", version.name, "--wait")
    thread.join()
