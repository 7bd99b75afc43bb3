"""`manage.py up` as a person uses it: a process of its own, in a place of its own, on a free port."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import psutil
import psycopg
import pytest

from labelapp.embedded import BASE_DIR
from labelapp.testing import FOR_TESTS
from tests.servers import free_port, wait_until

KINDS = {"web", "worker", "trainer", "beat", "engine"}


@pytest.fixture
def user(place) -> dict[str, str]:
    """The environment of somebody who has set nothing, and whose data go to the module's place."""
    return {name: value for name, value in os.environ.items() if name not in FOR_TESTS} | {"LABELAPP_VAR": str(place)}


def manage(user: dict, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(command, cwd=BASE_DIR, env=user, capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def up(user: dict, port: int, log) -> Iterator[subprocess.Popen]:
    words = [sys.executable, "manage.py", "up", "--no-demo", "--port", str(port)]
    process = subprocess.Popen(words, cwd=BASE_DIR, env=user, stdout=log.open("wb"), stderr=subprocess.STDOUT)

    def greeted():
        assert process.poll() is None, log.read_text()
        return "Labelapp is at" in log.read_text()

    try:
        wait_until(greeted, what=f"`up` being ready:\n{log}")
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
        manage(user, "down")


def running_at(place) -> list[str]:
    """Every process that was started for this place: by its environment or, for a server, its arguments."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            known = process.environ().get("LABELAPP_VAR") == str(place) or str(place) in " ".join(process.cmdline())
            if known and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
    return found


def kinds_reported(place) -> set[str]:
    with psycopg.connect(f"host={place}/default/run user=postgres dbname=labelapp") as connection:
        return {kind for (kind,) in connection.execute("SELECT kind FROM labelapp_process")}


def pythons_at(place) -> list[str]:
    """The same without the embedded servers."""
    return [line for line in running_at(place) if not re.search(r"bin/postgres |postgres: |valkey-server ", line)]


def test_up_serves_until_it_is_asked_to_end_and_leaves_nothing(user, place, tmp_path):
    port, log = free_port(), tmp_path / "up.log"
    with up(user, port, log) as process:
        page = httpx.get(f"http://127.0.0.1:{port}/accounts/login/")
        assert page.status_code == 200
        style = re.search(r'href="(/static/css/app\.\w+\.css)"', page.text)[1]
        assert httpx.get(f"http://127.0.0.1:{port}{style}").headers["cache-control"].endswith("immutable")

        wait_until(lambda: kinds_reported(place) >= KINDS, what="all processes reporting")
        found = json.loads(manage(user, "status", "--json").stdout)
        assert {process["kind"] for process in found["processes"]} >= KINDS
        refused = manage(user, "up", "--port", str(port))
        assert refused.returncode != 0 and f"Port {port}" in refused.stderr
        assert "Traceback" not in refused.stderr and len(refused.stderr.splitlines()) == 1
        assert manage(user, "down").returncode != 0, "servers in use are not stopped"

        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert running_at(place) == []


def test_a_killed_up_takes_its_processes_along_and_down_stops_the_servers(user, place, tmp_path):
    with up(user, free_port(), tmp_path / "up.log") as process:
        wait_until(lambda: kinds_reported(place) >= KINDS, what="all processes reporting")
        process.kill()
        process.wait()
        wait_until(lambda: not pythons_at(place), what="the children's end")
        assert any("postgres" in line for line in running_at(place))
        assert manage(user, "down").returncode == 0
        assert running_at(place) == []


def test_a_taken_port_is_named_before_anything_starts(user, place):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = manage(user, "up", "--port", str(taken.getsockname()[1]))
    assert refused.returncode != 0
    assert "cannot be used" in refused.stderr
    assert running_at(place) == []


def test_a_host_that_others_reach_needs_its_names(user):
    refused = manage(user, "up", "--host", "0.0.0.0", "--port", str(free_port()))
    assert refused.returncode != 0
    assert "ALLOWED_HOSTS" in refused.stderr


def test_a_single_command_stops_the_servers_it_started(user, place):
    assert manage(user, "migrate", "--verbosity", "0").returncode == 0
    assert running_at(place) == []


def test_checking_the_code_starts_no_server(user, place):
    for words in (["makemigrations", "--check"], ["status"]):
        manage(user, *words)
        assert not (place / "default" / "run" / ".s.PGSQL.5432").exists()


def test_a_database_that_does_not_answer_is_one_sentence(user):
    refused = manage({**user, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "up", "--port", str(free_port()))
    assert refused.returncode != 0
    assert "The database does not answer" in refused.stderr and "Traceback" not in refused.stderr


def test_production_does_not_start_without_its_secrets(user):
    production = {**user, "DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "LABELAPP_LOCAL": "0"}
    assert "SECRET_KEY is not set" in manage(production, "check").stderr
    assert "ALLOWED_HOSTS is not set" in manage({**production, "SECRET_KEY": "x"}, "check").stderr
    assert manage({**production, "SECRET_KEY": "x", "ALLOWED_HOSTS": "x.org"}, "check").returncode == 0
