"""Places of their own for servers that tests start and kill."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labelapp.embedded import Services


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A short path that does not exist yet and that the servers' account can reach; removed at the end."""
    place = Path(tempfile.gettempdir()) / f"lb{os.urandom(4).hex()}"
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def services(place, monkeypatch) -> Iterator[Services]:
    """Servers in the module's place, stopped before and after each test; their data stay from test to test."""
    monkeypatch.setenv("LABELAPP_VAR", str(place))
    services = Services("own", durable=False)
    yield services
    services.stop()
