"""The reward stage: it learns what was planted, the same however it is cut, stopped or resumed."""

import json
import math

import pytest
import torch

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, EXIT_NON_FINITE, RewardConfig, build
from alignment.data.judgments import EQUAL, read_votes
from alignment.data.labels import said_by_pairs, said_by_ties
from alignment.data.pairs import read_pairs
from alignment.models.checkpoints import load_reward, reward_from_policy
from alignment.models.scores import backward, end_scores, scores_of, unit_scores
from alignment.objectives.counterfactual_units import counterfactual_pool, draw_counterfactuals
from alignment.objectives.examples import encode, gather
from alignment.objectives.reward import batch_of, terms, total
from tests.alignment.snapshots import (
    gendered_pairs,
    make_job,
    metrics_of,
    pair,
    planted_pairs,
    tie,
    write_snapshot,
)
from tests.alignment.stages import FAST, run


@pytest.fixture
def model(parent):
    torch.manual_seed(0)
    return reward_from_policy(parent.path)


def judged(pairs):
    return gather(said_by_pairs(pairs, EQUAL))


def ties_of(snapshot):
    pairs, votes = read_pairs(snapshot.path, "train"), read_votes(snapshot.path, "train")
    return list(said_by_ties(votes, pairs, 1.0, EQUAL))


def encoded(tokenizer, tmp_path, rows):
    snapshot = write_snapshot(tmp_path / "snapshot", rows)
    return encode(tokenizer, judged(read_pairs(snapshot.path, "train")), 128, {"reward": [0]})[0]


def test_a_planted_preference_is_learned_and_holds_on_pairs_never_seen(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(96, seed=0), planted_pairs(40, seed=1))
    job = make_job("reward", tmp_path / "out", {"optimization": FAST}, snapshot=snapshot, parent=parent)

    exit_code, result = run(job, tmp_path)

    assert exit_code == EXIT_DONE, result
    (held_out,) = result["metrics"]
    assert held_out["key"] == "held_out_accuracy"
    assert held_out["value"] >= 0.9
    lines = metrics_of(job.output)
    assert [line["step"] for line in lines] == list(range(1, 19))
    assert lines[-1]["loss_nats"] < lines[0]["loss_nats"]
    assert {"accuracy", "margin", "gradient_norm", "learning_rate", "tokens_per_second"} <= set(lines[0])
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert card["inputs"] == {"snapshot": snapshot.sha256, "parent": parent.sha256}
    assert card["normalisation"]["sd"] > 0


def test_the_saved_model_gives_the_score_it_had_and_transformers_agrees(tmp_path, parent, tokenizer):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(16, seed=0))
    job = make_job("reward", tmp_path / "out", {"optimization": FAST}, snapshot=snapshot, parent=parent)
    run(job, tmp_path)
    model = load_reward(tmp_path / "out" / "checkpoint")
    examples, _ = encode(tokenizer, judged(read_pairs(snapshot.path, "train")), 128, {"reward": [0]})

    ours = scores_of(model, [example.texts for example in examples[:3]], tokenizer.pad_token_id)

    theirs = [model(input_ids=torch.tensor([row])).logits.item() for e in examples[:3] for row in e.texts]
    assert ours.flatten().tolist() == pytest.approx(theirs, abs=1e-5)


def test_the_score_is_read_at_the_end_even_when_the_prompt_holds_padding(model, tokenizer):
    pad, row = tokenizer.pad_token_id, [7, tokenizer.pad_token_id, 9, tokenizer.eos_token_id]
    alone = end_scores(model, torch.tensor([row]), torch.ones(1, 4, dtype=torch.bool))
    padded = end_scores(model, torch.tensor([[*row, pad, pad]]), torch.tensor([[True] * 4 + [False] * 2]))
    assert padded.item() == pytest.approx(alone.item(), abs=1e-6)


def test_the_gradient_does_not_depend_on_how_the_units_are_cut(tmp_path, model, tokenizer):
    examples = encoded(tokenizer, tmp_path, planted_pairs(8, seed=0))
    natural, templates = counterfactual_pool(tokenizer, [], 128)
    assert natural == []
    config = build(RewardConfig, {"counterfactual_weight": 1.0})
    batch = batch_of(examples, templates[:4], model.device)

    def gradients(tokens: int):
        model.zero_grad()
        scores = backward(model, batch.units, 0, lambda s: total(terms(s, batch, config)), tokens)
        return scores, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    whole_scores, whole = gradients(10**9)
    for tokens in (1, 150, 400):
        scores, cut = gradients(tokens)
        assert torch.allclose(scores, whole_scores, atol=1e-5)
        assert (cut - whole).norm() <= 1e-4 * whole.norm()


def test_short_units_are_not_padded_to_the_longest_of_the_step(model):
    units = [([7] * 12, [8] * 10) for _ in range(20)]
    units.insert(5, ([7] * 200, [8] * 190))
    seen = []
    model.base_model.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["input_ids"].numel()), with_kwargs=True
    )
    scores = backward(model, units, 0, lambda s: s.square().sum(), 16384)
    assert sum(seen) < 2 * 200 * 21 / 4
    assert torch.allclose(scores, unit_scores(model, units, 0), atol=1e-5)  # and come back in the units' own order


def test_ties_pull_scores_together(tmp_path, parent, tokenizer):
    rows = planted_pairs(48, seed=0)
    ties = [tie("Argue that books help.", f"great {w}", f"bad {w}", comparison=100 + i) for i, w in
            enumerate(["book", "school", "child", "city"] * 12)]  # fmt: skip
    margins = []
    for weight in (0.0, 4.0):
        snapshot = write_snapshot(tmp_path / f"s{weight}", rows, rows, ties)
        config = {"optimization": FAST, "tie_weight": weight}
        job = make_job("reward", tmp_path / f"out{weight}", config, snapshot=snapshot, parent=parent)
        run(job, tmp_path)
        model = load_reward(tmp_path / f"out{weight}" / "checkpoint")
        tied, _ = encode(tokenizer, gather(ties_of(snapshot)), 128, {"reward": [0]})
        assert len(tied) == 48
        scores = scores_of(model, [example.texts for example in tied], 0).view(-1, 2)
        margins.append((scores[:, 0] - scores[:, 1]).abs().mean().item())
    assert margins[1] < margins[0] / 2


def test_a_tie_is_read_once_and_never_where_a_decisive_pair_stands(tmp_path):
    rows = [pair("Why?", "a", "b", comparison=1)]
    judgments = [
        tie("Why?", "b", "a", comparison=1),
        tie("Why?", "c", "d", comparison=2),
        {**tie("Why?", "d", "c", comparison=2), "annotator": "b"},
        {**tie("Why?", "m", "n", comparison=6), "purpose": "gold"},
        tie("Why?", "e", "f", comparison=3, split="test"),
        {**tie("Why?", "k", "l", comparison=5), "ranking": None, "strength": None, "both_bad": True},
        {**tie("Why?", "g", "h", comparison=4), "completions": ["g", "h", "i"], "ranking": [[2], [0, 1]]},
    ]
    snapshot = write_snapshot(tmp_path / "s", rows, [], judgments)
    tied = [[said.texts[place][0]["content"] for place in said.what[:2]] for said in ties_of(snapshot)]
    assert tied == [["c", "d"], ["g", "h"]]


def test_the_pairs_of_one_ranking_weigh_as_one_judgment(tmp_path, tokenizer):
    ranking = [("a", "b"), ("a", "c"), ("b", "c")]
    rows = [pair("Why?", better, worse, comparison=1) for better, worse in ranking]
    others = [pair("Why?", "d", "e", comparison=2), pair("Why?", "f", "g")]
    batch = batch_of(encoded(tokenizer, tmp_path, [*rows, *others]), [], torch.device("cpu"))
    assert [len(unit) for unit in batch.units] == [3, 2, 2]  # each text is scored once
    assert batch.weights.tolist() == pytest.approx([1 / 3] * 3 + [1, 1])
    scores = torch.tensor([[0.0], [0.0], [0.0], [2.0], [0.0], [2.0], [0.0]])
    loss = terms(scores, batch, build(RewardConfig, {"margin": "none"}))["preference_nats"].value
    assert loss.item() == pytest.approx((math.log(2) + 2 * math.log1p(math.exp(-2))) / 3)


def test_the_counterfactual_penalty_makes_fewer_verdicts_hang_on_gender(tmp_path, parent, tokenizer):
    snapshot = write_snapshot(tmp_path / "s", gendered_pairs(64, seed=0), planted_pairs(32, seed=7))
    gaps, accuracies = [], []
    for weight in (0.0, 3.0):
        config = {"optimization": {**FAST, "epochs": 4}, "counterfactual_weight": weight}
        job = make_job("reward", tmp_path / f"out{weight}", config, snapshot=snapshot, parent=parent)
        _, result = run(job, tmp_path)
        model = load_reward(tmp_path / f"out{weight}" / "checkpoint")
        unseen = read_pairs(
            write_snapshot(tmp_path / f"u{weight}", gendered_pairs(40, seed=50)).path, "train"
        )
        natural, _ = counterfactual_pool(tokenizer, judged(unseen), 128)
        scores = scores_of(model, natural, 0).view(-1, 2)
        gaps.append(((scores[:, 0] - scores[:, 1]).abs().mean() / scores.std()).item())
        accuracies.append(result["metrics"][0]["value"])
    assert gaps[0] > 0.5  # without the penalty the planted bias is there
    assert gaps[1] < gaps[0] / 4
    assert min(accuracies) >= 0.9  # and what should be learned still is


def test_counterfactuals_are_drawn_by_seed_and_step_alone():
    natural, templates = [([i], [i]) for i in range(9)], [([-i], [-i]) for i in range(9)]
    first = draw_counterfactuals(natural, templates, count=6, seed=1, step=4)
    assert first == draw_counterfactuals(natural, templates, count=6, seed=1, step=4)
    assert first != draw_counterfactuals(natural, templates, count=6, seed=1, step=5)
    assert sum(unit[0][0] > 0 or unit in natural for unit in first) >= 3


def test_a_batch_larger_than_all_templates_draws_each_once():
    templates = [([i], [i]) for i in range(9)]
    drawn = draw_counterfactuals([([-1], [-1])], templates, count=40, seed=1, step=4)
    assert sorted(drawn) == sorted([([-1], [-1]), *templates])


def test_a_run_that_meets_nan_fails_by_name_and_makes_no_checkpoint(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", [pair("Why?", "a", "b", margin=math.nan)])
    job = make_job("reward", tmp_path / "out", {}, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert (exit_code, result["code"], result["checkpoint"]) == (EXIT_NON_FINITE, "non_finite", None)
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_a_snapshot_without_a_fitting_pair_is_refused(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", [pair("Why?", "a " * 300, "b")])
    job = make_job("reward", tmp_path / "out", {"max_length": 64}, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert "no training pair of at most 64 tokens" in result["reason"]


def test_a_job_without_a_snapshot_is_refused(tmp_path, parent):
    exit_code, result = run(make_job("reward", tmp_path / "out", {}, parent=parent), tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert "needs the input 'snapshot'" in result["reason"]


def test_the_texts_of_a_comparison_come_from_one_pass_and_score_as_alone(model, tokenizer, tmp_path):
    ranking = [pair("Why?", better, worse, comparison=1) for better, worse in (("a", "b b b"), ("a", "c"))]
    examples = encoded(tokenizer, tmp_path, [*planted_pairs(4, seed=3), *ranking])
    together = unit_scores(model, [e.texts for e in examples], tokenizer.pad_token_id)
    alone = [unit_scores(model, [[text]], tokenizer.pad_token_id) for e in examples for text in e.texts]
    assert together.shape == (11, 1)
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
