"""KTO: which completions are desirable, what they are measured against, and that it learns from them alone."""

import json

import pytest
import torch

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, JobError, PreferenceConfig, build
from alignment.data.pairs import read_pairs
from alignment.models.checkpoints import load_policy
from alignment.models.sequences import Passes, frozen_logprobs
from alignment.objectives import unpaired
from tests.alignment.golden import gradients
from tests.alignment.snapshots import (
    assistant,
    judgment,
    make_job,
    metrics_of,
    pair,
    planted_pairs,
    user,
    write_snapshot,
)
from tests.alignment.stages import FAST, run


def sources(**options) -> object:
    return build(PreferenceConfig, {"loss": "kto", "unpaired": options}).unpaired


def judged(comparison: int, texts: list[str], **said) -> dict:
    return judgment("Ask.", texts, None, comparison=comparison, **said)


def labels(found) -> list[tuple]:
    return sorted((one.completion, one.desirable, round(one.weight, 3)) for one in found)


def test_decisive_pairs_give_one_desirable_and_one_undesirable_completion(tmp_path):
    snapshot = write_snapshot(tmp_path / "s", [pair("Ask.", "yes", "no"), pair("Ask.", "yes", "never")])
    found = unpaired.from_pairs(read_pairs(snapshot.path, "train"))
    assert labels(found) == [("never", False, 1), ("no", False, 1), ("yes", True, 1), ("yes", True, 1)]


def test_the_completions_of_a_ranking_weigh_one_pair_together(tmp_path):
    rows = [pair("Rank.", a, b, comparison=1) for a, b in (("x", "y"), ("x", "z"), ("y", "z"))]
    snapshot = write_snapshot(tmp_path / "s", rows)
    found = unpaired.from_pairs(read_pairs(snapshot.path, "train"))
    third = round(1 / 3, 3)
    assert labels(found) == [("x", True, 0.667), ("y", False, third), ("y", True, third), ("z", False, 0.667)]


def test_judgments_give_absolute_labels(tmp_path):
    rows = [
        judged(1, ["a", "b"], both_bad=True),
        judged(2, ["c", "d"], ratings={"helpful": [5, 1]}),
        judged(2, ["d", "c"], ratings={"helpful": [2, 4]}, annotator="b"),
        judged(3, ["e"], ratings={"helpful": [3]}),
        judged(4, ["f"], ratings={"other": [5]}),
        judged(5, ["g", "h"], both_bad=True, split="test"),
        judged(6, ["i", "j"], both_bad=True),
        judged(6, ["i", "j"], annotator="b"),
    ]
    write_snapshot(tmp_path / "s", [], judgments=rows)
    found = unpaired.from_judgments(tmp_path / "s", sources(criterion="helpful"))
    assert labels(found) == [("a", False, 1), ("b", False, 1), ("c", True, 1), ("d", False, 1)]
    assert labels(unpaired.from_judgments(tmp_path / "s", sources(both_bad=False))) == []


@pytest.mark.parametrize("no_vote", [{"purpose": "gold"}, {"purpose": "quiz"}, {"origin": "swapped"}])
def test_answers_that_check_a_labeler_are_no_labels(tmp_path, no_vote):
    rows = [
        judged(1, ["a", "b"], both_bad=True, **no_vote),
        judged(2, ["c", "d"], ratings={"helpful": [5, 5]}, **no_vote),
        judged(2, ["c", "d"], ratings={"helpful": [1, 3]}, annotator="b"),
        judged(3, ["e", "f"], both_bad=True, **no_vote),
        judged(3, ["e", "f"], both_bad=True, annotator="b"),
        judged(3, ["e", "f"], annotator="c"),
    ]
    write_snapshot(tmp_path / "s", [], judgments=rows)
    assert labels(unpaired.from_judgments(tmp_path / "s", sources(criterion="helpful"))) == [("c", False, 1)]


def test_of_each_annotator_the_latest_answer_counts(tmp_path):
    rows = [
        judged(1, ["a"], both_bad=True),
        judged(1, ["a"], both_bad=True),
        judged(1, ["a"], annotator="b"),
        judged(2, ["c"], ratings={"helpful": [1]}),
        judged(2, ["c"], ratings={"helpful": [5]}, purpose="reask"),
    ]
    write_snapshot(tmp_path / "s", [], judgments=rows)
    assert labels(unpaired.from_judgments(tmp_path / "s", sources(criterion="helpful"))) == [("c", True, 1)]


def test_rows_of_a_file_are_in_the_unpaired_format(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": "Ask.", "completion": "fine", "label": True},
        {"prompt": user("Ask."), "completion": assistant("bad"), "label": False, "weight": 0.5},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert labels(unpaired.from_rows(str(path))) == [("bad", False, 0.5), ("fine", True, 1)]
    path.write_text('{"prompt": "Ask.", "completion": "fine", "label": 1}\n')
    with pytest.raises(JobError, match=r"line 1: .* true or false"):
        unpaired.from_rows(str(path))


def test_every_example_has_the_completion_of_another_prompt():
    prompts = [[i // 3] for i in range(30)]  # three completions a prompt
    partners = unpaired.mismatched(prompts, seed=4)
    assert all(prompts[i] != prompts[j] for i, j in enumerate(partners))
    assert partners == unpaired.mismatched(prompts, seed=4) != unpaired.mismatched(prompts, seed=5)
    assert len(set(partners)) > 15  # no few completions stand for all
    with pytest.raises(JobError, match="two prompts"):
        unpaired.mismatched([[1], [1]], seed=0)


def examples_of(tokenizer, folder, count: int = 8, max_length: int = 128):
    pairs = read_pairs(write_snapshot(folder, planted_pairs(count, seed=0)).path, "train")
    return unpaired.encode_examples(
        tokenizer, unpaired.from_pairs(pairs), sources(desirable_weight=1.5), max_length=max_length, seed=0
    )


def test_the_weights_of_the_sides_are_those_of_the_rows(tokenizer, tmp_path):
    examples, dropped = examples_of(tokenizer, tmp_path / "s")
    assert {(e.desirable, e.weight) for e in examples} == {(True, 1.5), (False, 1.0)}
    assert dropped == 0


def test_a_judged_completion_is_whole_or_left_out(tokenizer, tmp_path):
    whole, _ = examples_of(tokenizer, tmp_path / "whole")
    limit = sorted(len(e.completion) for e in whole)[len(whole) // 2]
    examples, dropped = examples_of(tokenizer, tmp_path / "cut", max_length=limit)
    assert len(examples) + dropped == len(whole) and dropped > 0
    assert all(len(row.prompt) >= 1 and row.tokens <= limit for row in unpaired.rows_of(examples))
    assert {tuple(e.completion) for e in examples} <= {tuple(e.completion) for e in whole}


def test_how_a_step_is_cut_or_ordered_changes_neither_loss_nor_gradient(parent, tokenizer, tmp_path):
    examples, _ = examples_of(tokenizer, tmp_path / "s")
    config = build(PreferenceConfig, {"loss": "kto"})
    start = frozen_logprobs(load_policy(parent.path), unpaired.rows_of(examples), Passes(0)).view(-1, 2)
    reference = start - torch.linspace(0, 2, start.numel()).square().view_as(start)
    weights = torch.tensor([e.weight for e in examples])
    found = []
    for tokens, order in ((1, range(16)), (200, range(16)), (10**9, range(16)), (10**9, reversed(range(16)))):
        model, order = load_policy(parent.path), list(order)
        stats = unpaired.accumulate(
            model, [examples[i] for i in order], reference[order], weights[order], config, Passes(0, tokens)
        )
        found.append((stats, gradients(model)))
    assert found[0][0]["baseline_nats"] > 0
    for stats, gradient in found[1:]:
        assert stats == pytest.approx(found[0][0], rel=1e-4)
        assert (gradient - found[0][1]).norm() <= 1e-4 * found[0][1].norm()


def test_before_the_first_step_nothing_is_gained_and_kto_costs_a_half(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0))
    config = {"loss": "kto", "optimization": {**FAST, "epochs": 2}}
    job = make_job("preference", tmp_path / "out", config, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert lines[0]["loss"] == pytest.approx(0.5, abs=1e-5)
    assert lines[0]["baseline_nats"] == pytest.approx(0, abs=1e-4)
    assert lines[-1]["accuracy"] >= 0.8
    assert lines[-1]["margin"] > 0.05


def test_kto_learns_from_rows_without_any_pair(tmp_path, parent):
    path, rows = tmp_path / "rows.jsonl", planted_pairs(64, seed=0)
    unpaired_rows = [
        {"prompt": row["prompt"], "completion": row["chosen" if i % 2 else "rejected"], "label": bool(i % 2)}
        for i, row in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in unpaired_rows))
    snapshot = write_snapshot(tmp_path / "s", [])
    options = {"pairs": False, "both_bad": False}
    config = {"loss": "kto", "rows": str(path), "unpaired": options, "optimization": {**FAST, "epochs": 4}}
    job = make_job("preference", tmp_path / "out", config, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    assert metrics_of(tmp_path / "out")[-1]["accuracy"] >= 0.7


def test_labels_of_one_prompt_are_refused(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", [pair("Ask.", "yes", "no"), pair("Ask.", "sure", "never")])
    job = make_job("preference", tmp_path / "out", {"loss": "kto"}, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert "two prompts" in result["reason"]
