"""Two ranks on one machine follow the curve of one process, in every stage that trains, to the same weights."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignment.config import Input
from tests.alignment.ranks import curve, run_ranks
from tests.alignment.snapshots import judgment, make_job, planted_pairs, user, write_snapshot
from tests.alignment.stages import run
from tests.tiny_models import TEXT, make_tiny_reward

PLAN = {"learning_rate": 3e-3, "batch_size": 6, "epochs": 8, "max_steps": 5, "watch_every": 2}
DIALOGUES = [
    {"prompt": f"Argue that {word} help you.", "completion": "You can help! " * (1 + n % 3)}
    for n, word in enumerate(["books", "uniforms", "children", "teachers", "people", "schools", "rivers"])
] * 3
RULE = {"terms": [{"kind": "contains", "pattern": "e"}, {"kind": "length", "words": 3}]}
JUDGED = {"terms": [{"kind": "model", "input": "reward"}, {"kind": "contains", "pattern": "e", "weight": 0.1}]}
COST = {"terms": [{"kind": "contains", "pattern": "a"}], "limit": 0.1, "rate": 1.0}
SAMPLED = {"prompts": 3, "completions": 4, "max_new_tokens": 8, "passes": 2}
KL = {"beta": 0.1, "target_nats": 0.1, "horizon": 50}
CASES = {
    "pretrain": {"context": 16, "vocabulary": 300, "width": 32, "depth": 2, "heads": 4, "micro_batch": 2},
    "sft": {"micro_tokens": 48, "show": 2},
    "sft lora": {"lora": {"rank": 4}, "optimization": {**PLAN, "activation_checkpointing": True}},
    "reward": {"counterfactual_weight": 1.0, "tie_weight": 0.5, "centering": 0.01, "mitigation": {"group_rate": 0.1}},
    "preference": {"beta": 0.3},
    "preference kto": {"loss": "kto", "beta": 0.3, "lora": {"rank": 4}},
    "ppo": {"sampling": SAMPLED, "kl": KL, "reward": JUDGED, "held_out_prompts": 2},
    "grpo": {"sampling": {**SAMPLED, "tries": 2}, "kl": KL, "reward": RULE, "held_out_prompts": 2, "show": 1},
    "safe": {"sampling": SAMPLED, "kl": KL, "reward": RULE, "cost": COST, "loss": "gspo", "lora": {"rank": 4}},
    "safe_ppo": {"sampling": SAMPLED, "kl": KL, "reward": RULE, "cost": COST, "value": {"source": "policy"}},
    "online_dpo": {
        "sampling": {"prompts": 3, "completions": 4, "max_new_tokens": 8}, "reward": JUDGED,
        "optimization": {**PLAN, "batch_size": 3},
    },
}
SAMPLING = {"ppo", "grpo", "safe", "safe_ppo", "online_dpo"}


@pytest.fixture(scope="module")
def material(tmp_path_factory, parent):
    """(config of what a stage reads, its inputs), by stage."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "text.txt").write_text("\n\n".join(TEXT * 12))
    for name, rows in (
        ("rows", DIALOGUES),
        ("unseen", DIALOGUES[:5]),
        ("prompts", [{"id": n, "messages": user(f"Question {n}? {'Why? ' * (n % 3)}")} for n in range(20)]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ties = [judgment("Argue.", ["a book", "a city"], [[0, 1]], comparison=1000 + n, group=f"t{n}") for n in range(4)]
    snapshot = write_snapshot(folder / "snapshot", planted_pairs(60, seed=1), planted_pairs(12, seed=2), ties)
    reward = Input(str(folder / "reward"), make_tiny_reward(folder / "reward", parent.path, seed=3))
    text = {"text": [str(folder / "text.txt")], "held_out_text": [str(folder / "text.txt")]}
    rows = {"rows": str(folder / "rows.jsonl"), "held_out_rows": str(folder / "unseen.jsonl")}
    prompts = {"prompts": str(folder / "prompts.jsonl")}
    judged = {"parent": parent, "reward": reward}
    return {
        "pretrain": (text, {}),
        "sft": (rows, {"parent": parent}),
        "reward": ({}, {"parent": parent, "snapshot": snapshot}),
        "preference": ({}, {"parent": parent, "snapshot": snapshot}),
        **{stage: (prompts, judged) for stage in SAMPLING},
    }


def job_of(case, material, output):
    stage = case.partition(" ")[0]
    reads, inputs = material[stage]
    return make_job(stage, output, {"optimization": PLAN, **reads, **CASES[case]}, **inputs)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_follow_the_curve_of_one_process(tmp_path, material, case):
    job = job_of(case, material, tmp_path / "one")
    _, expected = run(job, tmp_path)
    found = run_ranks(replace(job, output=str(tmp_path / "two")), tmp_path)
    assert (found["status"], found["codes"]) == ("done", [0, 0]), found["reason"]
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert list(one) == list(two) and len(one) >= 4
    for step, line in one.items():
        assert two[step] == pytest.approx(line, rel=1e-4, abs=1e-4), f"step {step}"
    for mine, theirs in zip(expected["metrics"], found["metrics"], strict=True):
        assert theirs["value"] == pytest.approx(mine["value"], abs=1e-3)
    kind = AutoModelForSequenceClassification if job.stage == "reward" else AutoModelForCausalLM
    models = [kind.from_pretrained(tmp_path / name / "checkpoint") for name in ("one", "two")]
    for (name, mine), theirs in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(theirs, mine, atol=1e-3, rtol=0, msg=name)
