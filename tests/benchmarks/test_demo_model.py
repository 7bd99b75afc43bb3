"""What the demo's base model is made from: no test debate and no held-out passage reaches a training file."""

import gzip
import json

import pytest

from alignment.manifest import split_of
from benchmarks.demo_model import DEBATES, TEST_SHARE, UNSEEN, split_prose, write_text


@pytest.fixture
def work(tmp_path):
    """One argument pair a topic, each naming its topic, and 3,000 numbered paragraphs."""
    rows = [{"topic": topic, "a1": f"first of {topic}", "a2": f"second of\n\n{topic} "} for topic in debates()]
    with gzip.open(tmp_path / "arguments.gz", "wt") as stream:
        stream.write("".join(json.dumps(row) + "\n" for row in rows * 2))
    with gzip.open(tmp_path / "prose.gz", "wt") as stream:
        stream.write("\n\n".join(f"paragraph {i}" for i in range(3000)))
    write_text(tmp_path / "prose.gz", tmp_path / "arguments.gz", tmp_path)
    return tmp_path


def debates():
    return json.loads(DEBATES.read_text())


def split_named(name):
    return {t for t, d in debates().items() if split_of(d["debate"], TEST_SHARE) == name}


def test_32_stances_of_16_debates_have_a_prompt_each_and_5_debates_are_kept_for_testing():
    topics = debates()
    assert len(topics) == 32 and len({d["debate"] for d in topics.values()}) == 16
    assert len({d["prompt"] for d in topics.values()}) == 32
    assert all(topic.startswith(d["debate"]) for topic, d in topics.items())
    assert len({topics[t]["debate"] for t in split_named("test")}) == 5


def test_training_files_hold_only_training_debates(work):
    text = (work / "arguments-train.txt").read_text() + (work / "dialogues-train.jsonl").read_text()
    assert all(topic in text for topic in split_named("train"))
    assert not any(topic in text for topic in split_named("test"))
    assert not any(debates()[topic]["prompt"] in text for topic in split_named("test"))
    held_out = (work / "arguments-test-debates.txt").read_text()
    assert all(topic in held_out for topic in split_named("test"))


def test_each_argument_is_one_document_and_one_dialogue(work):
    rows = [json.loads(line) for line in (work / "dialogues-train.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * len(split_named("train"))
    assert len((work / "arguments-train.txt").read_text().split("\n\n")) == len(rows)
    assert rows[1]["completion"] == f"second of\n{next(iter(t for t in debates() if t in split_named('train')))}"


def test_held_out_passages_are_whole_and_apart():
    text = "\n\n".join([*(f"paragraph {i}" for i in range(3000)), "paragraph 970", "paragraph 5"])
    kept, held_out = split_prose(text)
    assert not set(kept) & set(held_out) and len(kept) + len(held_out) == 3000
    assert held_out[:40] == [f"paragraph {i}" for i in range(960, 1000)]


def test_the_sampled_prompts_are_no_training_prompts():
    assert not set(UNSEEN) & {d["prompt"] for d in debates().values()}
