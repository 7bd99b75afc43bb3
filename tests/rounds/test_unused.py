"""What `manage.py gc` removes, and what it never does."""

import json
import os
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from alignment.manifest import verify
from labelapp.models import Snapshot, Version
from labelapp.rounds.actions import launch_round, request_cancel
from labelapp.rounds.artifacts import stage_directory, write_prompts
from labelapp.rounds.supervise import supervise_round
from tests.factories import make_project, make_prompt
from tests.rounds.material import make_parent, make_snapshot, queue_reward_round

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shelf(settings, tmp_path):
    """An artifact directory of its own: other tests' files are nobody's here."""
    settings.ARTIFACT_DIR = tmp_path / "artifacts"
    settings.ARTIFACT_DIR.mkdir()
    return settings.ARTIFACT_DIR


def collect(*words: str, **options) -> dict:
    out = StringIO()
    call_command("gc", *words, json=True, stdout=out, **options)
    return json.loads(out.getvalue())


def paths(answer: dict, shelf: Path) -> set[str]:
    return {str(Path(found["path"]).relative_to(shelf)) for found in answer["found"]}


def write(path: Path, hours: float = 48) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 10)
    then = time.time() - 3600 * hours
    for each in (path, *path.parents[:3]):
        os.utime(each, (then, then))
    return path


def test_leftovers_go_and_what_a_finished_round_made_stays(shelf):
    round = queue_reward_round(make_project(), steps=2)
    supervise_round(round.pk)
    round.refresh_from_db()
    killed = write(shelf / "rounds" / str(round.pk) / "99" / "01-reward" / "checkpoint" / "model.safetensors")
    write(shelf / "snapshots" / "abc.partial" / "files" / "pairs-train.jsonl")
    write(shelf / "prompts" / "f00.jsonl")
    write(shelf / "dry-runs" / "7" / "01-reward" / "job.json")
    asked = collect(hours=0, dry_run=True)
    leftovers = {f"rounds/{round.pk}/99/01-reward", "snapshots/abc.partial", "prompts/f00.jsonl", "dry-runs/7"}
    assert paths(asked, shelf) == leftovers
    assert killed.exists() and asked["bytes"] == 40
    assert paths(collect(hours=0), shelf) == paths(asked, shelf)
    assert not killed.exists() and collect(hours=0)["found"] == []
    version = round.versions.get()
    verify(version.path, version.digest)
    assert (Path(round.stages.get().output) / "metrics.jsonl").is_file()


def test_what_is_young_may_be_about_to_be_cited(shelf):
    write(shelf / "snapshots" / "new" / "files" / "pairs-train.jsonl", hours=2)
    assert collect()["found"] == []
    assert paths(collect(hours=1), shelf) == {"snapshots/new"}


def test_a_round_under_way_keeps_every_attempt_and_its_state(shelf):
    project = make_project()
    round = queue_reward_round(project)
    stage = round.stages.get()
    state = write(stage_directory(round, stage, 1) / "state" / "state.json")
    assert collect()["found"] == []
    request_cancel(round=round)
    assert paths(collect(), shelf) == {f"rounds/{round.pk}/1/01-reward"}
    assert not state.exists()


def test_of_a_round_that_is_over_the_state_goes_and_the_log_stays(shelf):
    round = queue_reward_round(make_project())
    stage = round.stages.get()
    folder = stage_directory(round, stage, 1)
    write(folder / "state" / "state.json"), write(folder / "log.txt")
    round.stages.update(output=str(folder))
    request_cancel(round=round)
    assert paths(collect(), shelf) == {f"rounds/{round.pk}/1/01-reward/state"}
    assert (folder / "log.txt").exists()


def test_prompts_that_a_recipe_names_stay(shelf):
    project = make_project()
    prompts = [make_prompt(project, f"Argue for {n}.", group=f"group {n}") for n in range(30)]
    parent, snapshot = make_parent(project), make_snapshot(project)
    round = launch_round(project=project, snapshot=snapshot, parent=parent)
    named = next(spec["config"]["prompts"] for spec in round.recipe["stages"] if spec["name"] == "evaluate")
    other = write_prompts(prompts[:2])
    assert set(paths(collect(hours=0), shelf)) == {f"prompts/{Path(other).name}"}
    assert Path(named).is_file()


def test_snapshots_and_models_that_rows_name_stay(shelf):
    project = make_project()
    kept = write(shelf / "snapshots" / "kept" / "manifest.json").parent
    model = write(shelf / "models" / "one" / "checkpoint" / "model.safetensors").parent
    Snapshot.objects.create(
        project=project, path=str(kept), digest="a", manifest={}, pairs_train=1, pairs_test=1, judgments=1
    )
    Version.objects.create(project=project, kind="policy", name="one", path=str(model), digest="b")
    write(shelf / "models" / "two" / "checkpoint" / "model.safetensors")
    assert paths(collect(), shelf) == {"models/two"}
    assert kept.exists() and model.exists()


def test_hours_below_zero_are_refused():
    with pytest.raises(CommandError, match="--hours is -1"):
        call_command("gc", "--hours", "-1")
