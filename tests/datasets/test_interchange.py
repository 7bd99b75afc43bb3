"""What leaves here is read elsewhere without a script."""

import asyncio
import json
from pathlib import Path

import pytest
from django.test import AsyncRequestFactory

from labelapp.datasets import download
from labelapp.datasets.actions import freeze_snapshot, import_preferences
from tests.factories import make_project

DATA = Path(__file__).parent.parent / "data"


def test_datasets_reads_the_pairs_files_unchanged(db, settings, tmp_path):
    datasets = pytest.importorskip("datasets")
    settings.ARTIFACT_DIR = tmp_path
    project = make_project()
    with open(DATA / "ukpconvarg1-sample.jsonl", "rb") as stream:
        import_preferences(project=project, stream=stream, source="ukp")
    project.test_share = 0.37
    project.save()
    folder = Path(freeze_snapshot(project=project, by=None).path)

    files = {split: str(folder / f"pairs-{split}.jsonl") for split in ("train", "test")}
    loaded = datasets.load_dataset("json", data_files=files, cache_dir=str(tmp_path / "cache"))

    for split, path in files.items():
        rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
        assert loaded[split].to_list() == rows and len(rows) > 5
    row = loaded["train"][0]
    roles = [turn["role"] for turn in row["prompt"] + row["chosen"] + row["rejected"]]
    assert roles == ["user", "assistant", "assistant"]
    assert isinstance(row["margin"], float)


def test_a_download_through_asgi_comes_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PIECE", 10)
    path = tmp_path / "pairs-train.jsonl"
    path.write_bytes(b"0123456789" * 3 + b"end")
    response = download.send_file(AsyncRequestFactory().get("/"), path, name="p.jsonl", sha256="ab")

    async def pieces() -> list[bytes]:
        return [piece async for piece in response.streaming_content]

    assert asyncio.run(pieces()) == [b"0123456789"] * 3 + [b"end"]
    assert response["Content-Length"] == "33" and response["ETag"] == '"ab"'
