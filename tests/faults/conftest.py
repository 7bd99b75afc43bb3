"""The bucket of the tests that share artifacts between machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bucket import KEYS, s3_server
from tests.rounds.material import policy_files, snapshot_files


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as url:
        yield url


@pytest.fixture
def shared(s3, settings, tmp_path, monkeypatch) -> Path:
    """A part of the bucket, empty at first, behind an ARTIFACT_DIR that is empty too."""
    policy_files(), snapshot_files("good")  # what rounds start from lies elsewhere, on every machine
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    settings.ARTIFACT_STORE = f"s3://artifacts/{tmp_path.name}"
    settings.ARTIFACT_STORE_ENDPOINT = s3
    settings.ARTIFACT_STATE_MINUTES = 0
    settings.ARTIFACT_DIR = tmp_path / "artifacts"
    settings.ARTIFACT_DIR.mkdir()
    return settings.ARTIFACT_DIR
