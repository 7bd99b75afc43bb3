"""The first start on a bare machine: what stops it is one sentence, before or after pip."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labelapp import bootstrap
from labelapp.testing import FOR_TESTS
from tests.servers import free_port

NEEDED = ["manage.py", "pyproject.toml", "constraints.txt", "labelapp/__init__.py", "labelapp/bootstrap.py"]
PRETEND = "import sys; sys.version_info = {version} + ('final', 0); import manage; manage.main(['up'])"


@pytest.fixture
def checkout(tmp_path) -> Path:
    """What the first seconds of a fresh clone need, without an environment."""
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(bootstrap.BASE / name, tmp_path / name)
    return tmp_path


def start(checkout: Path, *words: str, **environ: str) -> subprocess.CompletedProcess:
    """Run with the interpreter that made this environment, as somebody without one."""
    nobody = {name: value for name, value in os.environ.items() if name not in FOR_TESTS | {"VIRTUAL_ENV"}}
    python = getattr(sys, "_base_executable", sys.executable)
    return subprocess.run(
        [python, *words], cwd=checkout, env={**nobody, **environ}, capture_output=True, text=True, timeout=120
    )


def refused_in_one_sentence(done: subprocess.CompletedProcess) -> str:
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 14, 0)])
def test_an_unsupported_python_is_named_with_the_supported_ones(checkout, version):
    said = refused_in_one_sentence(start(checkout, "-c", PRETEND.format(version=version)))
    assert "Python 3.11 to 3.13 is needed" in said
    assert ".".join(map(str, version)) in said
    assert not (checkout / ".venv").exists()


def test_without_network_the_first_start_says_so(checkout):
    closed = f"http://127.0.0.1:{free_port()}/simple"
    away = {"PIP_INDEX_URL": closed, "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    done = start(checkout, "manage.py", "up", **away, PIP_RETRIES="0")
    assert "the package index cannot be reached" in refused_in_one_sentence(done)
    assert "[1/2] Making the environment" in done.stdout and "[2/2] Installing" in done.stdout
    assert not (checkout / ".venv" / "installed").exists(), "the next start tries again"


def test_a_disk_that_is_too_small_is_named_before_the_download(checkout):
    """On a file system of 20 MB in a mount namespace of its own, where that is allowed."""
    if subprocess.run(["unshare", "-rm", "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this system allows no mount namespace")
    python = getattr(sys, "_base_executable", sys.executable)
    script = f"""mkdir small && mount -t tmpfs -o size=20m none small && cp -r {" ".join(NEEDED[:3])} labelapp small/
        cd small && exec {python} manage.py up"""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=checkout,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert "about 2 GB are needed" in refused_in_one_sentence(done)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "no space is left"),
        ("WARNING: Retrying ... NewConnectionError ...", "the package index cannot be reached"),
        ("Collecting a\nERROR: No matching distribution found for b", "No matching distribution found for b"),
    ],
)
def test_the_reason_pip_gives_becomes_a_sentence(output, sentence):
    assert sentence in bootstrap.reason(output)


def test_the_pins_fit_what_is_asked_for():
    """Every dependency is pinned, and no pin names a build: CPU and CUDA users install the same versions."""
    pins = (bootstrap.BASE / "constraints.txt").read_text().splitlines()
    names = {line.split("==")[0].lower().replace("_", "-") for line in pins if not line.startswith("#")}
    asked = {line.split(";")[0].split("[")[0] for line in bootstrap.requirements(["dev"])}
    asked = {name for line in asked for name in [line.split("~")[0].split(">")[0].split("<")[0].strip().lower()]}
    assert asked <= names
    assert not [line for line in pins if "+" in line and not line.startswith("#")]
