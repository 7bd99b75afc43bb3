"""samples.jsonl: what people read while a policy changes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from alignment.data.rows import read_jsonl
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy
from alignment.sampling.decode import sample
from alignment.sampling.shown import FILE, append, first_distinct
from tests.alignment.snapshots import make_job, planted_pairs, write_snapshot
from tests.alignment.stages import run

RULE = {"terms": [{"kind": "contains", "pattern": "e"}]}
PLAN = {"learning_rate": 1e-2, "max_steps": 4, "watch_every": 2, "checkpoint_every": 2}
SAMPLED = {"reward": RULE, "held_out_prompts": 4, "sampling": {"prompts": 2, "completions": 2, "max_new_tokens": 8}}


def lines_of(output: str | Path) -> list[dict]:
    return [row for _, row in read_jsonl(Path(output) / FILE, "samples")]


def job_of(stage: str, tmp_path: Path, parent, **config):
    snapshot = tmp_path / "snapshot"
    inputs = {"parent": parent}
    plan = PLAN | ({"batch_size": 2} if stage == "sft" else {})
    if stage == "sft":
        rows = tmp_path / "rows.jsonl"
        rows.write_text("".join(json.dumps({"prompt": f"Argue {n}.", "completion": "Yes!"}) + "\n" for n in range(8)))
        config["rows"] = str(rows)
    elif not snapshot.exists():
        inputs["snapshot"] = write_snapshot(snapshot, planted_pairs(64, seed=0))
    config = {**(SAMPLED if stage in {"grpo", "online_dpo"} else {}), "optimization": plan, **config}
    return make_job(stage, tmp_path / "out", config, **inputs)


@pytest.mark.parametrize("stage", ["sft", "preference", "grpo", "online_dpo"])
def test_the_same_prompts_are_answered_before_the_first_step_and_at_each_measurement(stage, tmp_path, parent):
    job = job_of(stage, tmp_path, parent, show=2)
    exit_code, result = run(job, tmp_path)
    assert exit_code == 0, result
    lines = lines_of(job.output)
    assert [line["step"] for line in lines] == [0, 2, 4]
    prompts = [[each["prompt"] for each in line["samples"]] for line in lines]
    assert len(set(prompts[0])) == 2 and prompts[0] == prompts[1] == prompts[2]


def test_the_first_answers_are_the_parents_own_most_likely_ones(tmp_path, parent):
    job = job_of("sft", tmp_path, parent, show=1)
    run(job, tmp_path)
    tokenizer = load_tokenizer(parent.path)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Argue 0."}], add_generation_prompt=True,
                                        return_dict=False)  # fmt: skip
    (expected,) = sample(load_policy(parent.path), tokenizer, [ids], seeds=[5], max_new_tokens=96, temperature=0.0)
    assert lines_of(job.output)[0]["samples"][0]["completion"] == expected.text


def test_showing_changes_no_weight(tmp_path, parent):
    quiet, shown = (replace(job_of("grpo", tmp_path / name, parent, show=n), output=str(tmp_path / name / "out"))
                    for n, name in enumerate(("quiet", "shown")))  # fmt: skip
    digests = []
    for job in (quiet, shown):
        run(job, tmp_path)
        digests.append((Path(job.output) / "checkpoint" / "model.safetensors").read_bytes())
    assert digests[0] == digests[1]
    assert not (Path(quiet.output) / FILE).exists() and lines_of(shown.output)


def test_a_resumed_attempt_goes_on_behind_the_lines_of_the_one_before(tmp_path, parent):
    before, after = tmp_path / "before", tmp_path / "after"
    for folder in (before, after):
        folder.mkdir()
    steps = "".join(json.dumps({"step": step, "samples": []}) + "\n" for step in (0, 10, 20))
    (before / FILE).write_text(steps + '{"step": 30, "sam')  # killed while it wrote
    job = replace(make_job("sft", after, {}), resume_from=str(before))
    append(job, {"step": 20, "samples": ["again"]})
    append(job, {"step": 30, "samples": []})
    told = [(line["step"], line["samples"]) for line in lines_of(after)]
    assert told == [(0, []), (10, []), (20, ["again"]), (30, [])]


def test_prompts_are_distinct_and_no_longer_than_what_is_read():
    assert first_distinct([[1, 2], [], [1, 2], [3], [4]], 2) == [[1, 2], [3]]
    assert first_distinct([list(range(300))], 1) == [list(range(44, 300))]
    assert first_distinct([[1]], 0) == []
