"""The embedded servers start once, survive kill -9, and end with their last user."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from labelapp.embedded import BASE_DIR, EmbeddedError, Services
from labelapp.embedded.places import make_private
from tests.servers import wait_until

BOTH = {"postgres", "valkey"}
START = "from labelapp.embedded import Services; print(sorted(Services('own', durable=False).ensure()))"
HOLD = (
    "import time\nfrom labelapp.embedded import Services\n"
    "with Services('own', durable=False).held(): print('held', flush=True); time.sleep(600)"
)


def query(services: Services, sql: str):
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        found = connection.execute(sql)
        return found.fetchone() if found.description else None


def postmaster(services: Services) -> int:
    return int((services.postgres.data / "postmaster.pid").read_text().split()[0])


def broker(services: Services) -> psutil.Process:
    processes = psutil.process_iter(["cmdline"])
    return next(p for p in processes if str(services.valkey.socket) in " ".join(p.info["cmdline"] or []))


def test_addresses_are_known_before_anything_starts(services):
    assert services.database_url.startswith("postgresql://postgres@/labelapp?host=/")
    assert services.broker_url.startswith("redis+socket:///")
    assert not services.postgres.accepts()


def test_four_starters_at_once_start_each_server_once(services):
    starters = [python(START, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [starter.communicate(timeout=60)[0].strip() for starter in starters]
    assert sorted(said) == ["['postgres', 'valkey']", "[]", "[]", "[]"]
    assert services.postgres.accepts("labelapp") and services.valkey.accepts()


def test_the_directories_are_for_one_account_only(services):
    services.ensure()
    for path in (services.root, services.run, services.postgres.data, services.valkey.data):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    services.secret_key()
    assert stat.S_IMODE((services.root / "secret_key").stat().st_mode) == 0o600


def test_after_kill_9_both_come_back_with_their_data(services):
    services = Services("own", durable=True)
    shutil.rmtree(services.postgres.data)
    services.ensure()
    query(services, "CREATE TABLE kept AS SELECT 7 AS n")
    busy = psycopg.connect(services.database_url)
    busy.execute("SELECT 1")
    os.kill(postmaster(services), signal.SIGKILL)
    broker(services).kill()
    wait_until(lambda: not services.valkey.accepts(), what="the broker's end")
    assert services.ensure() == BOTH
    busy.close()
    assert query(services, "SELECT n FROM kept") == (7,)


def test_a_pid_file_that_names_another_program_is_no_obstacle(services):
    services.ensure()
    services.postgres.stop()
    stale = services.postgres.data / "postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{services.postgres.data}\n")
    assert "postgres" in services.ensure()


def test_the_last_user_stops_the_servers_and_nobody_before(services):
    with services.held() as started:
        assert started == BOTH
        with services.held() as again:
            assert again == set()
        assert not services.stop_unless_used()
        assert services.postgres.accepts()
    assert not services.postgres.accepts() and not services.valkey.accepts()


def test_a_killed_user_leaves_servers_that_the_next_one_adopts_and_stops(services):
    user = python(HOLD, stdout=subprocess.PIPE)
    assert user.stdout.readline() == b"held\n"
    user.kill()
    user.communicate()
    with services.held() as started:
        assert started == set()
    assert not services.postgres.accepts()


def test_data_of_another_major_release_are_refused_with_the_way_out(services):
    services.ensure()
    services.stop()
    version = services.postgres.data / "PG_VERSION"
    ours = version.read_text()
    version.write_text("15\n")
    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 15.*pg_dumpall"):
        services.ensure()
    version.write_text(ours)


def test_a_killed_initdb_leaves_nothing_half_made(services, monkeypatch, tmp_path):
    half = services.root / "postgres.new"
    make_private(half)
    (half / "PG_VERSION").write_text("18\n")
    shutil.rmtree(services.postgres.data)
    assert "postgres" in services.ensure()
    assert not half.exists()


def test_a_directory_open_to_others_is_refused(tmp_path):
    tmp_path.chmod(0o755)
    with pytest.raises(EmbeddedError, match="mode 0700"):
        make_private(tmp_path)


def test_a_deep_checkout_gets_its_sockets_in_the_temporary_directory(monkeypatch):
    monkeypatch.setenv("LABELAPP_VAR", "/tmp/" + "deep/" * 30)
    services = Services()
    assert len(str(services.run)) < 60 and not services.run.is_relative_to(services.root)


def test_a_full_disk_is_one_sentence(place):
    """On a file system of 2 MB in a mount namespace of its own, where that is allowed."""
    small = f"mkdir -p {place}/small && mount -t tmpfs -o size=2m,mode=711 none {place}/small && exec "
    start = f"LABELAPP_VAR={place}/small {sys.executable} -c \"{START}\""
    place.mkdir(mode=0o711, exist_ok=True)
    if subprocess.run(["unshare", "-m", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user may make no mount namespace")
    words = ["unshare", "-m", "sh", "-c", small + f"env {start}"]
    done = subprocess.run(words, cwd=BASE_DIR, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no space is left on the disk" in done.stderr.lower()


def python(code: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(BASE_DIR), **options)
