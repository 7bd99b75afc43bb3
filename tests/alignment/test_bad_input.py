"""What a stage cannot use ends it with exit code 64 and one sentence that names the thing and the remedy."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, Input
from alignment.manifest import write_manifest
from tests.alignment.snapshots import make_job, pair, planted_pairs, write_snapshot
from tests.alignment.stages import run
from tests.tiny_models import make_tiny_reward

PLAN = {"optimization": {"batch_size": 4, "max_steps": 1}}
POLICY_INPUT = {"sft": "parent", "reward": "parent", "preference": "parent", "grpo": "parent", "generate": "policy"}


@pytest.fixture
def files(tmp_path):
    """Everything a stage may read, all of it in order."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hello", "completion": "You can."}\n' * 4)
    (tmp_path / "prompts.jsonl").write_text('{"id": 1, "messages": [{"role": "user", "content": "Hello"}]}\n' * 2)
    write_snapshot(tmp_path / "snapshot", planted_pairs(8, seed=0), planted_pairs(4, seed=1))
    return tmp_path


@pytest.fixture
def reward(tmp_path, tiny_policy):
    return Input(str(tmp_path / "reward"), make_tiny_reward(tmp_path / "reward", tiny_policy[0]))


def job_of(stage, files, parent, **inputs):
    prompts = {"prompts": str(files / "prompts.jsonl"), "max_new_tokens": 4}
    configs = {
        "sft": {"rows": str(files / "rows.jsonl"), **PLAN},
        "reward": PLAN,
        "preference": PLAN,
        "generate": prompts,
        "evaluate": {"max_new_tokens": 4},
        "grpo": {"prompts": prompts["prompts"], "sampling": {"max_new_tokens": 4}, "optimization": {"max_steps": 1}},
    }
    given = {POLICY_INPUT[stage]: parent} if stage in POLICY_INPUT else {}
    if stage in {"reward", "preference", "evaluate"}:
        given["snapshot"] = Input(str(files / "snapshot"))
    return make_job(stage, files / "out", configs[stage], **{**given, **inputs})


def refused(job, files, capsys) -> str:
    """The sentence that the person reads, and that result.json holds."""
    exit_code, result = run(job, files)
    printed = capsys.readouterr().err
    assert exit_code == EXIT_BAD_INPUT and (result["status"], result["code"]) == ("failed", "bad_input"), printed
    assert "Traceback" not in printed and printed == result["reason"] + "\n"
    assert result["checkpoint"] is None and not (Path(job.output) / "checkpoint").exists()
    return result["reason"]


def spoilt(parent, files, change) -> Input:
    """A copy of the parent, changed and sealed again: whoever made it vouches for what it holds."""
    path = copytree(parent.path, files / "spoilt")
    change(path)
    (path / "manifest.json").unlink()
    return Input(str(path), write_manifest(path, kind="checkpoint"))


def edit(name, **changes):
    def change(path):
        facts = json.loads((path / name).read_text()) | changes
        (path / name).write_text(json.dumps(facts))

    return change


def without_template(path):
    (path / "chat_template.jinja").unlink()


def pickled_weights(path):
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(pickle.dumps({}))


every_policy_reader = pytest.mark.parametrize("stage", list(POLICY_INPUT))


@every_policy_reader
def test_a_byte_that_changed_since_the_digest_was_taken(files, parent, stage, capsys):
    path = copytree(parent.path, files / "changed")
    weights = bytearray((path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (path / "model.safetensors").write_bytes(weights)
    reason = refused(job_of(stage, files, replace(parent, path=str(path))), files, capsys)
    assert f"{path}/model.safetensors has SHA-256" in reason and "expected" in reason


@every_policy_reader
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (edit("tokenizer_config.json", eos_token=None), "has no end token; set eos_token in its tokenizer_config.json"),
        (without_template, "no chat template; set chat_template in its tokenizer_config.json or use a parent that has"),
        (pickled_weights, "pytorch_model.bin can run code when loaded; a checkpoint holds safetensors and JSON only"),
        (edit("config.json", auto_map={"AutoModel": "x.Y"}), "names code of its own (auto_map), which is never run"),
    ],
    ids=["no end token", "no chat template", "pickled", "code"],
)
def test_a_parent_that_cannot_be_used(files, parent, stage, change, sentence, capsys):
    assert sentence in refused(job_of(stage, files, spoilt(parent, files, change)), files, capsys)


@every_policy_reader
def test_a_reward_model_where_a_policy_belongs(files, reward, stage, capsys):
    reason = refused(job_of(stage, files, reward), files, capsys)
    assert f"{reward.path} is a reward model" in reason and "name a policy here" in reason


@pytest.mark.parametrize("stage", ["evaluate", "grpo"])
def test_a_policy_where_a_reward_model_belongs(files, parent, stage, capsys):
    reason = refused(job_of(stage, files, parent, reward=parent), files, capsys)
    assert f"{parent.path} is no reward model" in reason and "name the checkpoint of the stage reward here" in reason


@pytest.mark.parametrize("stage", ["reward", "preference"])
def test_a_training_split_without_a_pair(files, parent, stage, capsys):
    empty = write_snapshot(files / "empty", [], planted_pairs(4, seed=1))
    reason = refused(job_of(stage, files, parent, snapshot=empty), files, capsys)
    assert f"{empty.path} has no training pair" in reason and "freeze more judgments" in reason


@pytest.mark.parametrize("stage", ["reward", "preference"])
def test_pairs_that_are_all_too_long(files, parent, stage, capsys):
    long = write_snapshot(files / "long", [pair("Hello", "good " * 300, "bad") for _ in range(4)])
    job = job_of(stage, files, parent, snapshot=long)
    reason = refused(replace(job, config={**job.config, "max_length": 64}), files, capsys)
    assert "no training pair of at most 64 tokens" in reason and "raise max_length" in reason


@pytest.mark.parametrize("stage", ["reward", "preference"])
def test_a_pair_that_is_too_long_is_left_out_and_counted(files, parent, stage):
    pairs = [*planted_pairs(8, seed=0), pair("Hello", "good " * 300, "bad", group="group 0")]
    some = write_snapshot(files / "some", pairs, planted_pairs(4, seed=1))
    job = job_of(stage, files, parent, snapshot=some)
    exit_code, result = run(replace(job, config={**job.config, "max_length": 128}), files)
    assert exit_code == EXIT_DONE and result["dropped_pairs"] == 1


def test_a_file_of_no_dialogues(files, parent, capsys):
    (files / "rows.jsonl").write_text("\n")
    assert "rows.jsonl holds no dialogue" in refused(job_of("sft", files, parent), files, capsys)
