"""Artifacts: directories whose manifest.json names every file's SHA-256. Torch-free.

The digest of an artifact is the SHA-256 of the bytes of its manifest.json: one string vouches for the whole directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
INDEX = "model.safetensors.index.json"  # names the files of weights that are too large for one
UNSEALED = "0" * 64  # stands in a file's header for the digest that is known only when the file is written
SEAL = re.compile(rb'"sha256":"([0-9a-f]{64})"')
PICKLED = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5", ".py"}


class ArtifactError(ValueError):
    """An artifact is missing, incomplete or was changed. The message names the file and both digests."""


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(path: str | Path) -> None:
    """Write a safetensors file's own SHA-256 into its header, whose writer left "sha256": UNSEALED in the metadata."""
    digest = file_sha256(path)
    with open(path, "r+b") as stream:
        stream.seek(SEAL.search(header_of(path)).start(1))
        stream.write(digest.encode())
        stream.flush()
        os.fsync(stream.fileno())


def verify_sealed(path: str | Path) -> None:
    """Check every byte of a sealed file. Raises ArtifactError for a changed one, and for one that has no seal."""
    try:
        header = header_of(path)
        if (found := SEAL.search(header)) is None:
            raise ArtifactError(f"{path} has no digest in its header; it cannot be checked")
        digest = hashlib.sha256(header[: found.start(1)] + UNSEALED.encode() + header[found.end(1) :])
        with open(path, "rb") as stream:
            stream.seek(len(header))
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error}") from error
    if digest.hexdigest() != (named := found[1].decode()):
        raise ArtifactError(f"{path} has SHA-256 {digest.hexdigest()}, its header says {named}")


def header_of(path: str | Path) -> bytes:
    """The first bytes of a safetensors file up to its tensors: the header's length in 8 bytes, then JSON."""
    with open(path, "rb") as stream:
        size = stream.read(8)
        return size + stream.read(min(int.from_bytes(size, "little"), os.fstat(stream.fileno()).st_size))


def write_manifest(directory: str | Path, *, kind: str, **facts: Any) -> str:
    """Name every file below the directory in manifest.json (fsynced) and return the artifact's digest."""
    directory = Path(directory)
    body = manifest_of(directory, kind=kind, **facts)
    with open(directory / MANIFEST, "w") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    return file_sha256(directory / MANIFEST)


def manifest_of(directory: Path, *, kind: str, **facts: Any) -> str:
    """The text of the manifest that names every file below the directory as it is now."""
    paths = sorted(p for p in directory.rglob("*") if p.is_file() and p.name != MANIFEST)
    files = {
        str(p.relative_to(directory)): {"sha256": file_sha256(p), "bytes": p.stat().st_size} for p in paths
    }
    return json.dumps({"kind": kind, **facts, "files": files}, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def pin(directory: str | Path) -> str:
    """The digest of a directory as it is now, for a job that names a path alone. Raises ArtifactError.

    A directory without a manifest, such as one from a model hub, gets the digest of the manifest it would have.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ArtifactError(f"{directory} is no directory; name a snapshot, a checkpoint or a model's directory")
    if (directory / MANIFEST).is_file():
        digest = file_sha256(directory / MANIFEST)
        verify(directory, digest)
        return digest
    return hashlib.sha256(manifest_of(directory, kind="directory").encode()).hexdigest()


def read_manifest(directory: str | Path) -> dict[str, Any]:
    try:
        return json.loads((Path(directory) / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{directory} is no artifact: {error}") from error


def verify(directory: str | Path, sha256: str) -> dict[str, Any]:
    """Check every byte against the digest and return the manifest. Raises ArtifactError naming the first difference."""
    directory = Path(directory)
    manifest = read_manifest(directory)
    if (found := file_sha256(directory / MANIFEST)) != sha256:
        raise ArtifactError(f"{directory / MANIFEST} has SHA-256 {found}, expected {sha256}")
    for name, facts in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise ArtifactError(f"{path} is missing")
        if (found := file_sha256(path)) != facts["sha256"]:
            raise ArtifactError(f"{path} has SHA-256 {found}, expected {facts['sha256']}")
    return manifest


def refuse_unsafe_files(path: str | Path) -> None:
    """Raises ArtifactError for a directory that holds pickled weights, asks for its own code, lacks a file of its
    weights, or holds more than its manifest names: a file laid beside the others (an adapter, a chat template) would be
    loaded unverified."""
    path = Path(path)
    if not (path / "config.json").is_file():
        raise ArtifactError(f"{path} is no checkpoint: it has no config.json")
    for found in sorted(path.rglob("*")):
        if found.suffix in PICKLED:
            raise ArtifactError(f"{found} can run code when loaded; a checkpoint holds safetensors and JSON only")
    if (path / MANIFEST).is_file():
        listed = {MANIFEST, *read_manifest(path)["files"]}
        found = {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}
        if extra := sorted(found - listed):
            raise ArtifactError(f"{path / extra[0]} is not named in the checkpoint's manifest; nobody vouches for it")
    if "auto_map" in read_json(path / "config.json"):
        raise ArtifactError(f"{path}/config.json names code of its own (auto_map), which is never run")
    for name in shards(path):
        if Path(name).name != name or not (path / name).is_file():
            raise ArtifactError(f"{path / INDEX} names {name!r}, which is not in the directory; copy all of it")


def shards(path: Path) -> list[str]:
    """The files of weights that the index names; none where one file holds them all."""
    return sorted(set(read_json(path / INDEX).get("weight_map", {}).values())) if (path / INDEX).is_file() else []


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ArtifactError."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{path} must hold a JSON object, not a {type(found).__name__}")
    return found


def split_of(group: str, test_share: float) -> str:
    """"test" for a fixed pseudo-random share of groups, else "train": a pure function of the group's name."""
    draw = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if draw < test_share else "train"
