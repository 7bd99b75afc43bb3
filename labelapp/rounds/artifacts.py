"""Where a round keeps its files, and a quick look at the artifacts it starts from."""

import json
import secrets
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings

from alignment.manifest import ArtifactError, file_sha256, verify_sealed
from labelapp import storage
from labelapp.models import Prompt, Round, Stage

PUBLISHED = {"result.json", "metrics.jsonl", "log.txt", "job.json", "samples.jsonl"}  # what the round page links to


def round_directory(round: Round) -> Path:
    return settings.ARTIFACT_DIR / "rounds" / str(round.pk)


def stage_directory(round: Round, stage: Stage, token: int) -> Path:
    """One directory an attempt: a zombie and its successor never share a path."""
    return round_directory(round) / str(token) / f"{stage.number:02d}-{stage.name}"


def saved_state(round: Round, stage: Stage) -> tuple[str | None, list[str]]:
    """The latest earlier attempt's directory with a whole state to resume from, and what is wrong with later ones."""
    damaged = []
    for token in range(round.token - 1, 0, -1):
        path = stage_directory(round, stage, token)
        if not (path / "state").is_dir():
            damaged += storage.bring_state(path / "state")
        try:
            files = sorted((path / "state").glob("*.safetensors"))
            for file in files:
                verify_sealed(file)
        except ArtifactError as error:
            damaged.append(str(error))
            continue
        if files:
            return str(path), damaged
    return None, damaged


def write_prompts(prompts: Iterable[Prompt]) -> str:
    """The prompts as JSONL, {"id", "messages"}, in a file that is named by its content."""
    folder = settings.ARTIFACT_DIR / "prompts"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": prompt.pk, "messages": prompt.messages}, ensure_ascii=False) for prompt in prompts]
    draft = folder / f"{secrets.token_hex(8)}.partial"
    draft.write_text("\n".join(lines) + "\n")
    place = draft.rename(folder / f"{file_sha256(draft)}.jsonl")
    storage.keep_files([place])
    return str(place)


def look_over(directory: str, digest: str) -> None:
    """Check the manifest's digest and every file's size, not its bytes: the trainer verifies those.

    Of what only the bucket has, the manifest. Raises ArtifactError naming the first difference.
    """
    try:
        manifest = storage.manifest_at_hand(directory, digest)
    except (storage.StoreAway, OSError, ValueError) as error:
        raise ArtifactError(str(error)) from error
    if not storage.is_here(directory):
        return
    for name, facts in manifest["files"].items():
        path = Path(directory) / name
        if not path.is_file():
            raise ArtifactError(f"{name} is missing")
        if path.stat().st_size != facts["bytes"]:
            raise ArtifactError(f"{name} has {path.stat().st_size} bytes, expected {facts['bytes']}")
