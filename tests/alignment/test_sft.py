import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from alignment.config import EXIT_BAD_INPUT, Input, Job, JobError, SFTConfig
from alignment.data.text import encode_prompt, load_tokenizer
from alignment.manifest import file_sha256
from alignment.models.checkpoints import load_policy, save_checkpoint
from alignment.sft import accumulate, encode_row, learnt_tokens, sum_nats
from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run

NAMES = ["books", "uniforms", "children", "teacher", "television", "people", "school", "learn"]
ROWS = [{"prompt": f"Argue that {name} help you.", "completion": f"You can help {name}!"} for name in NAMES] * 8


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(tmp_path / "rows.jsonl")


def config_of(rows, **optimization):
    return {"rows": rows, "optimization": {"learning_rate": 3e-3, "batch_size": 8, "epochs": 4, **optimization}}


def test_answers_are_learnt_and_prompts_are_not_in_the_loss(tmp_path, parent, rows):
    config = {**config_of(rows, epochs=8), "held_out_rows": rows}
    job = make_job("sft", tmp_path / "out", config, parent=parent)
    _, result = run(job, tmp_path)
    losses = [row["loss_nats"] for row in metrics_of(job.output)]
    assert losses[0] > 5 and losses[-1] < losses[0] / 2
    (metric,) = result["metrics"]
    assert metric["key"] == "answer_bits_per_byte" and 0 < metric["value"] < 3


def test_the_loss_is_the_mean_over_the_answers_tokens(policy, tokenizer):
    dialogues = [encode_row(row, tokenizer, 64) for row in ROWS[:5]]
    total = 0.0
    for dialogue in dialogues:
        ids = torch.tensor([dialogue.ids])
        labels = torch.where(torch.tensor([dialogue.learn]).bool(), ids, -100)
        total += policy(ids, labels=labels).loss.item() * sum(dialogue.learn)
    assert learnt_tokens(dialogues) == sum(sum(d.learn) for d in dialogues)
    assert sum_nats(policy, dialogues, 0).item() == pytest.approx(total, rel=1e-5)


def test_how_a_step_is_cut_or_ordered_changes_nothing(policy, tokenizer):
    long = {"prompt": "Hello", "completion": "You can ask a teacher; sure, that is great. " * 3}
    dialogues = [encode_row(row, tokenizer, 128) for row in [*ROWS[:6], long]]

    def gradient(rows, micro_tokens):
        policy.zero_grad()
        loss = accumulate(policy, rows, 0, micro_tokens=micro_tokens, precision="fp32")
        return loss, torch.cat([p.grad.flatten() for p in policy.parameters()])

    whole, expected = gradient(dialogues, 10**6)
    for rows, micro_tokens in ((dialogues, 1), (dialogues, 100), (dialogues, 300), (dialogues[::-1], 10**6)):
        loss, found = gradient(rows, micro_tokens)
        assert loss == pytest.approx(whole, rel=1e-6)
        assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_every_assistant_turn_of_a_dialogue_is_learnt(tokenizer):
    turns = [("user", "Hi"), ("assistant", "You can help"), ("user", "Thank you"), ("assistant", "Sure")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    dialogue = encode_row(row, tokenizer, 128)
    text = tokenizer.decode([i for i, learn in zip(dialogue.ids, dialogue.learn, strict=True) if learn])
    assert text == "You can help<|end|>Sure<|end|>"


def test_a_long_prompt_loses_its_beginning_and_the_answer_stays(tokenizer):
    row = {"prompt": "people think " * 50, "completion": "Sure"}
    dialogue = encode_row(row, tokenizer, 32)
    assert len(dialogue.ids) == 32 and dialogue.ids[-1] == tokenizer.eos_token_id
    kept = 32 - sum(dialogue.learn)
    assert dialogue.ids[:kept] == encode_prompt(tokenizer, row["prompt"])[-kept:]


def test_bf16_products_learn_the_same_with_fp32_weights(tmp_path, parent, rows):
    job = make_job("sft", tmp_path / "out", {**config_of(rows), "precision": "bf16"}, parent=parent)
    run(job, tmp_path)
    losses = [row["loss_nats"] for row in metrics_of(job.output)]
    assert losses[-1] < losses[0] - 1
    saved = load_policy(tmp_path / "out" / "checkpoint")
    assert saved.dtype == torch.float32 and saved.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("row", ['{"prompt": "x"}', '{"messages": [{"role": "user", "content": "x"}]}', "{"])
def test_a_bad_row_is_refused_by_its_line(tmp_path, parent, row):
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n" + row + "\n")
    job = make_job("sft", tmp_path / "out", config_of(str(tmp_path / "rows.jsonl")), parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT and result["code"] == "bad_input" and "line 2" in result["reason"]


def test_a_job_without_a_parent_is_refused(tmp_path, rows):
    _, result = run(make_job("sft", tmp_path / "out", config_of(rows)), tmp_path)
    assert "needs the input 'parent'" in result["reason"]


def start(job: Job, path) -> subprocess.Popen:
    job.dump(path)
    return subprocess.Popen([sys.executable, "-m", "alignment", job.stage, str(path)])


def wait_for_state(process: subprocess.Popen, output) -> None:
    while not (output / "state" / "state.safetensors").is_file():
        assert process.poll() is None
        time.sleep(0.005)


def test_a_killed_run_ends_in_the_weights_of_the_unbroken_run(tmp_path, parent, rows):
    """The killed process gets no chance to say good-bye; the digest covers every file of the checkpoint."""
    config = config_of(rows, batch_size=4, epochs=3, checkpoint_every=7)  # 48 steps
    _, expected = run(make_job("sft", tmp_path / "whole", config, parent=parent), tmp_path)
    killed = make_job("sft", tmp_path / "killed", config, parent=parent)
    process = start(killed, tmp_path / "killed.json")
    wait_for_state(process, tmp_path / "killed")
    process.kill()
    process.wait()
    again = make_job("sft", tmp_path / "again", config, parent=parent)
    again = replace(again, resume_from=killed.output)
    _, result = run(again, tmp_path)
    assert metrics_of(again.output)[0]["step"] >= 8  # it did not begin at the beginning
    weights = [file_sha256(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "again")]
    assert weights[0] == weights[1]
    assert result["checkpoint"]["sha256"] == expected["checkpoint"]["sha256"]


def test_unknown_settings_are_refused_by_name(rows):
    with pytest.raises(JobError, match="precision is 'fp8'"):
        SFTConfig(rows=rows, precision="fp8")


def test_a_template_that_rewrites_earlier_turns_is_refused_before_training(tmp_path, parent, rows):
    policy, tokenizer = load_policy(parent.path), load_tokenizer(parent.path)
    tokenizer.chat_template = "{% for m in messages[-2:] %}{{ m.content }}<|end|>{% endfor %}"
    other = Input(str(tmp_path / "other"), save_checkpoint(policy, tokenizer, tmp_path / "other", {}))
    exit_code, result = run(make_job("sft", tmp_path / "out", config_of(rows), parent=other), tmp_path)
    assert exit_code == EXIT_BAD_INPUT and "use a prefix-preserving template" in result["reason"]


def test_held_out_rows_choose_the_weights(tmp_path, rows, parent):
    """Rows that say the opposite of what is learnt are predicted worse and worse: an early step is kept."""
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "Hello", "completion": "zq xj wv kq zx"}) + "\n")
    config = {**config_of(rows, epochs=8), "held_out_rows": str(other)}
    config["optimization"] = {**config["optimization"], "watch_every": 1, "learning_rate": 0.01}
    job = make_job("sft", tmp_path / "out", config, parent=parent)
    run(job, tmp_path)
    found = [row["held_out_nats"] for row in metrics_of(job.output)]
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert card["best_step"] == 1 + found.index(min(found)) < card["steps"]
    kept, tokenizer = load_policy(tmp_path / "out" / "checkpoint"), load_tokenizer(parent.path)
    dialogue = [encode_row(json.loads(other.read_text()), tokenizer, 512)]
    nats = sum_nats(kept, dialogue, 0).item() / learnt_tokens(dialogue)
    assert nats == pytest.approx(min(found), rel=1e-4)
