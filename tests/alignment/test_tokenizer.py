import json

import pytest

from alignment.config import Input
from alignment.data.documents import read_documents
from alignment.data.text import encode_text, load_tokenizer
from alignment.manifest import verify
from tests.alignment.snapshots import make_job
from tests.alignment.stages import run
from tests.tiny_models import TEXT

OTHER = "Naïve readers — 漢字 and 🙂 — have no words of their own here."


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(TEXT * 3))
    (tmp_path / "other.txt").write_text(OTHER)
    return tmp_path


def job_for(folder, output="tokenizer", **changes):
    config = {"text": [str(folder / "text.txt")], "held_out_text": [str(folder / "other.txt")], "vocabulary": 320}
    return make_job("tokenizer", folder / output, {**config, **changes})


def test_a_tokenizer_learnt_from_text_writes_any_text_and_says_how_short(text):
    _, result = run(job_for(text), text)
    made = load_tokenizer(result["checkpoint"]["path"])
    assert len(made) == 320 and made.chat_template
    assert made.decode(encode_text(made, OTHER)) == OTHER
    figures = {metric["key"]: metric["value"] for metric in result["metrics"]}
    size, tokens = len("".join(TEXT * 3).encode()), sum(len(encode_text(made, part)) for part in TEXT * 3)
    assert figures["bytes_per_token:training text"] == pytest.approx(size / tokens)
    assert 1 <= figures["bytes_per_token:other.txt"] < figures["bytes_per_token:training text"]


def test_a_larger_vocabulary_makes_shorter_sequences_and_the_same_text_the_same_artifact(text):
    small, again, large = (
        run(job_for(text, name, vocabulary=size), text)[1] for name, size in (("a", 280), ("b", 280), ("c", 340))
    )
    assert small["checkpoint"]["sha256"] == again["checkpoint"]["sha256"]
    assert large["metrics"][0]["value"] > small["metrics"][0]["value"]


def test_the_artifact_is_a_tokenizer_and_names_its_text_by_digest(text):
    _, result = run(job_for(text), text)
    manifest = verify(result["checkpoint"]["path"], result["checkpoint"]["sha256"])
    assert manifest["kind"] == "tokenizer" and "tokenizer.json" in manifest["files"]
    card = json.loads((text / "tokenizer" / "checkpoint" / "card.json").read_text())
    assert set(card["files"]) == {"text.txt", "other.txt"} and card["vocabulary"] == 320


def test_a_policy_is_made_with_the_tokenizer_that_the_job_names(text):
    _, result = run(job_for(text), text)
    plan = {"batch_size": 4, "max_steps": 2, "epochs": 9}
    config = {"text": [str(text / "text.txt")], "width": 32, "depth": 1, "heads": 4, "context": 16}
    job = make_job("pretrain", text / "base", {**config, "optimization": plan}, tokenizer=Input(**result["checkpoint"]))
    _, base = run(job, text)
    made, given = (load_tokenizer(found["checkpoint"]["path"]) for found in (base, result))
    assert made.get_vocab() == given.get_vocab()
    card = json.loads((text / "base" / "checkpoint" / "card.json").read_text())
    assert card["inputs"] == {"tokenizer": result["checkpoint"]["sha256"]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": []}, "name at least one text file"),
        ({"text": ["absent.txt"]}, "cannot read the text"),
        ({"vocabulary": 100}, "more than the 256 bytes"),
    ],
)
def test_a_tokenizer_that_cannot_be_made_says_why(text, changes, reason):
    exit_code, result = run(job_for(text, **changes), text)
    assert exit_code == 64 and reason in result["reason"]


def test_a_text_without_a_document_is_refused(text):
    (text / "empty.txt").write_text("\n \n\n")
    assert read_documents(text / "empty.txt") == []
    exit_code, result = run(job_for(text, text=[str(text / "empty.txt")]), text)
    assert exit_code == 64 and "holds no document" in result["reason"]
