"""TRAINING_LAUNCHER: the trainer runs elsewhere, and ends with its lease, whatever happens to what lies between."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from alignment.manifest import verify
from labelapp.launching import launched, read_launcher
from labelapp.models import Round
from labelapp.rounds import heartbeat, trainer
from labelapp.rounds.actions import request_cancel
from labelapp.rounds.artifacts import round_directory, saved_state
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project
from tests.faults.rounds import ENDLESS, assert_ended, reach, states_of, supervised, trainers_of
from tests.rounds.material import policy_files, queue_reward_round, snapshot_files
from tests.servers import wait_until

pytestmark = pytest.mark.faults
rows = pytest.mark.django_db(transaction=True)
FAR_SHELL = f"{sys.executable} {Path(__file__).with_name('far_shell.py')} host {{quoted}}"
NOBODY = 65534


@pytest.fixture
def far(settings, tmp_path):
    """A launcher that is like ssh, and a shared directory whose name needs quotes."""
    policy_files(), snapshot_files("good")
    settings.TRAINING_LAUNCHER = read_launcher(FAR_SHELL)
    settings.ARTIFACT_DIR = tmp_path / "shared & 'quoted' $HOME"
    settings.ARTIFACT_DIR.mkdir()


@pytest.mark.parametrize(
    ("template", "command", "words"),
    [
        ("srun --gpus=1 {command}", ["python", "-m", "a b"], ["srun", "--gpus=1", "python", "-m", "a b"]),
        ("ssh 'gpu 1' {command}", ["python", "it's $HOME"], ["ssh", "gpu 1", "python 'it'\"'\"'s $HOME'"]),
        ("su far -c {quoted}", ["python", "a b"], ["su", "far", "-c", "python 'a b'"]),
        ("nice {command} more", ["python"], ["nice", "python", "more"]),
    ],
)
def test_a_template_takes_the_command_as_words_or_as_one_word_for_a_shell(template, command, words):
    assert launched(read_launcher(template), command) == words


def test_what_was_quoted_for_a_shell_arrives_as_it_was():
    command = ["printf", "%s\\n", "a b", "$HOME `id`", "it's", "", "x;y"]
    (line,) = launched(["ssh", "{command}"], command)[1:]
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True).stdout.split("\n")[:-1] == command[2:]
    assert shlex.split(line) == command


@pytest.mark.parametrize(
    "template", ["ssh host", "{command}", "ssh 'host {command}", "srun {command} {command}", "srun --wrap={command}"]
)
def test_a_template_that_cannot_work_is_refused_at_the_start(template):
    environ = {**os.environ, "TRAINING_LAUNCHER": template}
    with pytest.raises(ValueError, match="TRAINING_LAUNCHER"):
        read_launcher(template)
    if template == "ssh host":
        code = "import django, os; os.environ['DJANGO_SETTINGS_MODULE'] = 'labelapp.settings'; django.setup()"
        words = [sys.executable, "-c", code]
        refused = subprocess.run(words, env=environ, capture_output=True, text=True)
        assert refused.returncode and "ImproperlyConfigured: TRAINING_LAUNCHER 'ssh host' must be" in refused.stderr


def test_local_is_no_launcher():
    assert read_launcher("local") == read_launcher("") == []


@rows
def test_a_launcher_that_never_begins_ends_the_round_with_its_words(settings):
    settings.TRAINING_LAUNCHER = read_launcher("sh -c 'echo no such host >&2; exit 255' {command}")
    round = queue_reward_round(make_project())
    supervise_round(round.pk)
    assert_ended(round, "not_launched", "exit code 255; no such host", "look at TRAINING_LAUNCHER")


def test_a_trainer_that_cannot_be_executed_there_has_not_begun(tmp_path):
    words = [sys.executable, "-I", "-S", trainer.FAR_END, "20", tmp_path, tmp_path, "--", tmp_path / "no-python"]
    ended = subprocess.run(list(map(str, words)), capture_output=True, text=True, stdin=subprocess.PIPE)
    assert ended.returncode and "no-python" in ended.stderr.splitlines()[-1]
    assert trainer.read_far(tmp_path, "begun.json") is None


@rows
def test_a_link_that_breaks_ends_the_trainer_and_the_round_goes_on_from_its_state(far):
    round = queue_reward_round(make_project(), steps=3000)
    with supervised(round):
        reach(round, 4)
        client_of(round).kill()
    assert (round.state, round.attempt) == ("queued", 0)  # it got somewhere: no attempt is used up
    assert round.events.get(kind="released").detail["reason"] == "the link to the trainer broke"
    assert not trainers_of(round)
    Round.objects.filter(pk=round.pk).update(token=2)  # the next attempt's
    round.refresh_from_db()
    assert saved_state(round, round.stages.get())[0]


def client_of(round: Round) -> psutil.Process:
    """The launcher's own process here."""
    (client,) = [p for p in psutil.Process().children() if "far_shell.py" in " ".join(p.cmdline())]
    return client


@rows
@pytest.mark.long
def test_a_round_runs_elsewhere_without_our_environment_and_its_artifact_is_whole(far, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "must not travel")
    round = queue_reward_round(make_project(), steps=500)
    with supervised(round):
        reach(round, 1)
        (process,) = trainers_of(round)
        environ = process.environ()
        assert environ["OMP_NUM_THREADS"] == "1" and environ["HF_HUB_OFFLINE"] == "1"
        assert "SECRET_KEY" not in environ and "HOME" not in environ
        assert os.getsid(process.pid) != os.getsid(client_of(round).pid)
    assert round.state == "done", round.error
    version = round.versions.get()
    verify(version.path, version.digest)


@rows
@pytest.mark.long
def test_a_cancel_reaches_the_far_trainer_which_saves_and_ends(far):
    round = queue_reward_round(make_project(), steps=ENDLESS)
    with supervised(round):
        reach(round, 3)
        asked = request_cancel(round=round).cancel_requested_at
    assert round.state == "cancelled" and (round.finished_at - asked).total_seconds() < 20
    (folder,) = round_directory(round).glob("1/*")
    assert trainer.read_result(folder)["status"] == "stopped"
    assert states_of(round) and not trainers_of(round)


@rows
@pytest.mark.long
def test_a_far_trainer_that_hears_no_heartbeat_is_ended_there(far, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.5)
    monkeypatch.setattr(trainer, "FENCE_SECONDS", 3)
    round = queue_reward_round(make_project(), steps=ENDLESS)
    with supervised(round):
        reach(round, 3)
        client_of(round).send_signal(signal.SIGSTOP)  # a network that lost both machines without a word
        wait_until(lambda: not trainers_of(round), seconds=30, what="the far trainer's end")
    assert round.state == "queued" and round.events.filter(kind="released").exists()


@rows
@pytest.mark.long
def test_a_trainer_under_a_second_account_obeys(settings, tmp_path):
    """The other account reads the checkout and writes into the shared directory."""
    account = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    loads = ["sh", "-c", f"exec {sys.executable} -c 'import torch'"]  # a shell there has none of our rights
    if subprocess.run([*account, *loads], capture_output=True).returncode:
        pytest.skip("no second account here that can run this Python: only root can, and where others may read it")
    settings.TRAINING_LAUNCHER = read_launcher(f"{shlex.join(account)} {{command}}")
    for folder in (settings.ARTIFACT_DIR, settings.ARTIFACT_DIR.parent)[: 1 + ("PYTEST_XDIST_WORKER" in os.environ)]:
        folder.chmod(0o755)  # a test run keeps its files to itself
    mask = os.umask(0)
    try:
        round = queue_reward_round(make_project(), steps=ENDLESS)
        with supervised(round):
            reach(round, 1)
            (process,) = trainers_of(round)
            assert process.uids().real == NOBODY
            request_cancel(round=round)
    finally:
        os.umask(mask)
    assert round.state == "cancelled" and states_of(round) and not trainers_of(round)
