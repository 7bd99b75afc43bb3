"""A model from elsewhere becomes a version: fetched or copied, refused where it is unsafe, loaded once, registered."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings

from alignment.manifest import (
    MANIFEST,
    ArtifactError,
    file_sha256,
    refuse_unsafe_files,
    verify,
    write_manifest,
)
from labelapp import storage
from labelapp.models import Project, Version
from labelapp.rounds.trainer import environment, read_result

HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)")
WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "LICENSE*"]  # *.txt, *.model: older tokenizers
UNWANTED = ["*/*", "consolidated*"]  # other formats of the same weights


class NotAdoptable(Exception):
    """The model cannot become a version here. The message is a sentence with the remedy."""


def adopt_model(*, project: Project, source: str, kind: str = "policy", template: str = "") -> Version:
    """The candidate made of a hub's model, `org/name@revision`, or of a directory here; again gives the same row.

    `template` is a file with a chat template, for a model that has none. Raises NotAdoptable.
    """
    shelf = settings.ARTIFACT_DIR / "models"
    shelf.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shelf, prefix="draft-") as draft:
        model = Path(draft) / "model"
        origin = bring(source, model)
        try:
            digest = seal(model, origin, template)
        except ArtifactError as error:
            raise NotAdoptable(str(error).replace(str(model), source)) from error
        inspect(model, digest, kind, Path(draft) / "inspection", source)
        place = shelf / digest
        if not place.exists():
            model.rename(place)
        storage.keep(place, digest)
    version, _ = Version.objects.get_or_create(
        project=project,
        name=name_of(source, digest),
        defaults={"kind": kind, "path": str(place), "digest": digest, "card": read_card(place)},
    )
    return version


def name_of(source: str, digest: str) -> str:
    """Such as qwen2-5-0-5b-instruct-3fa9c1d2: the last part of the name, as an address can hold it."""
    last = source.partition("@")[0].rstrip("/").rpartition("/")[2]
    return f"{re.sub(r'[^a-z0-9]+', '-', last.lower()).strip('-')[:60] or 'model'}-{digest[:8]}"


def bring(source: str, into: Path) -> dict[str, str]:
    """Put the model's files into a new directory and say where they come from. Raises NotAdoptable."""
    found = HUB_NAME.fullmatch(source)
    if Path(source).is_dir():
        copy(Path(source), into)
        return {"directory": Path(source).resolve().name}
    if found is None:
        raise NotAdoptable(f"{source} is neither a directory here nor a hub's org/name@revision.")
    return fetch(found["name"], found["revision"], into)


def copy(source: Path, into: Path) -> None:
    """All of an artifact of ours, which its manifest vouches for; of another directory, the files that load."""
    if (source / MANIFEST).is_file():
        shutil.copytree(source, into)
        return
    into.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_file() and any(path.match(pattern) for pattern in WANTED) and not path.match("consolidated*"):
            shutil.copy(path, into / path.name)
    demand_safetensors(str(source), [path.name for path in source.iterdir()])


def demand_safetensors(source: str, names: list[str]) -> None:
    if not any(name.endswith(".safetensors") for name in names):
        pickled = any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names)
        reason = "only pickled weights, which can run code when loaded" if pickled else "no weights"
        raise NotAdoptable(f"{source} has {reason}: ask for a revision with model.safetensors, or convert it.")


def fetch(name: str, revision: str, into: Path) -> dict[str, str]:
    """Download the safe files of one commit; the branch or tag is resolved once. Raises NotAdoptable."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    hub = os.environ.get("HF_ENDPOINT")  # a mirror inside an organisation; None: the public hub
    try:
        info = HfApi(endpoint=hub).model_info(name, revision=revision)
        demand_safetensors(f"{name}@{revision}", [file.rfilename for file in info.siblings])
        chosen = {"allow_patterns": WANTED, "ignore_patterns": UNWANTED}
        snapshot_download(name, revision=info.sha, local_dir=into, endpoint=hub, **chosen)
    except GatedRepoError as error:
        raise NotAdoptable(f"{name} asks who downloads it: accept its terms on the hub and set HF_TOKEN.") from error
    except RevisionNotFoundError as error:
        raise NotAdoptable(f"{name} has no revision {revision!r}: name a branch, a tag or a commit.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise NotAdoptable(f"The hub has no model {name}, or shows it only to somebody with an HF_TOKEN.") from error
    except (OSError, HTTPError) as error:  # no network, a hub that fails, a full disk
        raise NotAdoptable(f"{name} could not be fetched: {error}. Copy its files here and name the path.") from error
    shutil.rmtree(into / ".cache", ignore_errors=True)  # the downloader's notes
    return {"hub": name, "revision": revision, "commit": info.sha}


def seal(model: Path, origin: dict[str, str], template: str) -> str:
    """Refuse what is unsafe, add the chat template and a card, and return the digest. Raises ArtifactError."""
    if (model / MANIFEST).is_file() and not template:
        digest = file_sha256(model / MANIFEST)
        verify(model, digest)
        return digest
    (model / MANIFEST).unlink(missing_ok=True)
    refuse_unsafe_files(model)
    if template:
        (model / "chat_template.jinja").write_text(read_template(template))
    card = {**read_card(model), "stage": "adopted", "source": origin}
    (model / "card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    return write_manifest(model, kind="checkpoint")


def read_template(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NotAdoptable(f"The chat template {path} cannot be read: {error}.") from error


def inspect(model: Path, digest: str, kind: str, output: Path, source: str) -> None:
    """Have the trainer load it, in a process of its own. Raises NotAdoptable with its reason."""
    inputs = {"model": {"path": str(model), "sha256": digest}}
    job = {"stage": "inspect", "inputs": inputs, "config": {"kind": kind}, "output": str(output)}
    output.mkdir()
    (output / "job.json").write_text(json.dumps(job))
    subprocess.run(
        [sys.executable, "-m", "alignment", "inspect", str(output / "job.json")],
        cwd=settings.BASE_DIR,
        env=environment(threads=1),
        capture_output=True,
    )
    killed = {"status": "failed", "reason": "it was killed while loading; is there enough memory?"}
    result = read_result(output) or killed
    if result["status"] != "done":
        raise NotAdoptable(f"{source} cannot be used here: {result['reason'].replace(str(model), source)}")


def read_card(model: Path) -> dict[str, Any]:
    try:
        return json.loads((model / "card.json").read_text())
    except (OSError, ValueError):
        return {}
