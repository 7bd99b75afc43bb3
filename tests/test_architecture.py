"""The rules of ARCHITECTURE.md that a machine can check."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import call_command

BASE = Path(__file__).resolve().parent.parent
FORBIDDEN_IN_WEB = {"torch", "transformers", "sklearn", "trl", "datasets"}
LOADED = "import sys; print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(words, cwd=BASE, capture_output=True, text=True)


def test_imports_point_one_way():
    checked = run(sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    assert checked.returncode == 0, checked.stdout


def test_the_code_is_clean_by_its_own_rules():
    checked = run(sys.executable, "-m", "ruff", "check", "--quiet", "--output-format", "concise", ".")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "entry",
    [
        "import labelapp.asgi, django.urls; django.urls.get_resolver().url_patterns",
        "import labelapp.celery; labelapp.celery.app.loader.import_default_modules(); import labelapp.tasks",
    ],
    ids=["web", "worker and beat"],
)
def test_only_trainer_and_engine_load_torch(entry):
    """A process of its own says what it loaded: an import in a function counts once it is called."""
    loaded = run(sys.executable, "-c", f"{entry}\n{LOADED}")
    assert loaded.returncode == 0, loaded.stderr
    assert not FORBIDDEN_IN_WEB & set(loaded.stdout.split())


@pytest.mark.django_db
def test_every_change_of_a_table_has_its_migration():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_no_file_outgrows_a_reader():
    long = {
        str(path.relative_to(BASE)): lines
        for folder in ("labelapp", "alignment")
        for path in (BASE / folder).rglob("*.py")
        if "migrations" not in path.parts and (lines := len(path.read_text().splitlines())) > 300
    }
    assert long == {}
