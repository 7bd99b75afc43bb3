"""What every test may use: people with roles come from tests/factories.py, processes and browsers from here."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

BROWSER_HINT = "no Chromium: install it with `apt-get install chromium` or `playwright install chromium`"
BROWSER_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


EMPTYING_TRIES = 5  # a page of a browser that is closing may still be asking something while tables are emptied


def pytest_configure(config):
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["tests.hashing.QuickHasher"]
    empty_tables_again_after_a_deadlock()
    be_patient_with_slow_machines()


def be_patient_with_slow_machines() -> None:
    """Let no property fail because its examples took long: these tests share their cores with others."""
    from hypothesis import HealthCheck, settings

    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


def empty_tables_again_after_a_deadlock() -> None:
    """Have Django's emptying of the tables after a test tried again where another process was in its way."""
    from django.core.management.base import CommandError
    from django.test import TransactionTestCase

    empty = TransactionTestCase._fixture_teardown

    def patient(self):
        for attempt in range(1, EMPTYING_TRIES + 1):
            try:
                return empty(self)
            except CommandError as error:
                if "deadlock" not in str(error.__cause__) or attempt == EMPTYING_TRIES:
                    raise
                time.sleep(0.2 * attempt)

    TransactionTestCase._fixture_teardown = patient


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix):
    from labelapp.testing import copy_migrated_database

    copy_migrated_database()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Sort the tests: formulae, then the rest, then those that start processes, then those with a browser.

    The browser must be last: Playwright leaves a running loop in this thread, and asyncio.run() fails after it.
    """
    items.sort(key=_rank)


def _rank(item) -> int:
    fixtures = set(getattr(item, "fixturenames", ()))
    if "browser" in fixtures:
        return 3
    if fixtures & {"web_server", "celery_worker", "engine_process"}:
        return 2
    return int("tests/alignment" not in str(item.path))


@pytest.fixture
def no_attempts_yet(settings) -> None:
    """Count failed sign-ins and joins from none, under cache keys that nobody else reads or empties."""
    default = settings.CACHES["default"]
    prefix = f"{default.get('KEY_PREFIX', '')}{os.urandom(4).hex()}"
    settings.CACHES = {"default": {**default, "KEY_PREFIX": prefix}}


def find_chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """The system's Chromium; without one the test is skipped, or fails where REQUIRE_BROWSER is set."""
    executable = find_chromium()
    if not executable and not any(Path.home().glob(".cache/ms-playwright/chromium*")):
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(BROWSER_HINT)
    flags = [*BROWSER_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return {**browser_type_launch_args, "args": flags, **({"executable_path": executable} if executable else {})}


@pytest.fixture
def web_server(transactional_db, tmp_path) -> Iterator[Callable[..., str]]:
    """web_server() starts one more granian process on the test's database and returns its address.

    Keyword arguments are environment variables for it.
    """
    from tests import servers

    with contextlib.ExitStack() as stack:
        yield lambda **environ: stack.enter_context(servers.web(tmp_path / f"web{os.urandom(2).hex()}.log", **environ))


@pytest.fixture
def celery_worker(transactional_db, tmp_path) -> Iterator[Callable]:
    """celery_worker("training") starts one more real worker for these queues (both by default); returns its Popen."""
    from tests import servers

    servers.purge_own_queues()
    with contextlib.ExitStack() as stack:

        def start(*queues: str):
            name = f"worker{os.urandom(2).hex()}"
            queues = queues or ("default", "training")
            return stack.enter_context(servers.worker(tmp_path / f"{name}.log", *queues, name=name))

        yield start


@pytest.fixture
def engine_process(transactional_db, tmp_path):
    """The real engine process on the test's database and socket."""
    from tests import servers

    with servers.engine(tmp_path / "engine.log") as process:
        yield process
