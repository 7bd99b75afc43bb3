"""The preference stage: it starts at its reference, moves towards the planted preference, keeps the best weights."""

import json
import math

import pytest
import torch

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, JobError, PreferenceConfig, build
from alignment.data.pairs import EncodedPair, encode_pairs, read_pairs
from alignment.models.checkpoints import load_policy
from alignment.models.sequences import Passes, Row, collate, frozen_logprobs, sequence_logprobs
from alignment.objectives import paired
from alignment.preference import read_data
from tests.alignment.golden import gradients
from tests.alignment.snapshots import make_job, metrics_of, pair, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run

PAIRED = {
    "sigmoid": {},
    "robust": {"label_smoothing": 0.1},
    "hinge": {},
    "ipo": {"beta": 0.5},
    "simpo": {"beta": 2.0, "terms": {"target_margin": 0.5}},
    "orpo": {"beta": 0.5},
}


def encoded(tokenizer, folder, rows):
    return encode_pairs(tokenizer, read_pairs(write_snapshot(folder, rows).path, "train"), 128)[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, parent):
    folder = tmp_path_factory.mktemp("trained")
    snapshot = write_snapshot(folder / "s", planted_pairs(64, seed=0))
    job = make_job("preference", folder / "out", {"optimization": FAST}, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, folder)
    assert exit_code == EXIT_DONE, result
    return folder / "out"


def test_the_first_step_costs_log_two_and_has_no_implicit_reward(trained):
    first = metrics_of(trained)[0]
    assert first["loss_nats"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["chosen_reward"] == pytest.approx(0, abs=1e-5)
    assert first["rejected_reward"] == pytest.approx(0, abs=1e-5)
    assert first["chosen_logp_nats"] < 0


def test_the_policy_moves_towards_the_preference_also_on_pairs_never_seen(
    trained, parent, tokenizer, tmp_path
):
    lines = metrics_of(trained)
    assert lines[-1]["margin"] > lines[0]["margin"]
    assert lines[-1]["accuracy"] >= 0.9
    unseen = encoded(tokenizer, tmp_path / "unseen", planted_pairs(32, seed=9))
    moved, before = (
        frozen_logprobs(load_policy(path), paired.rows_of(unseen), Passes(0))
        for path in (trained / "checkpoint", parent.path)
    )
    rewards = (moved - before).view(-1, 2)
    assert (rewards[:, 0] > rewards[:, 1]).float().mean() >= 0.9


def test_the_card_names_its_parents_and_what_was_left_out(trained, parent):
    card = json.loads((trained / "checkpoint" / "card.json").read_text())
    assert card["inputs"]["parent"] == parent.sha256
    assert (card["pairs"], card["dropped_pairs"], card["config"]["beta"]) == (64, 0, 0.1)


def test_a_sum_over_the_completion_holds_its_end_and_no_prompt(policy, tokenizer):
    end = tokenizer.eos_token_id
    rows = [Row([7, 8, 9], [10, 11, end]), Row([7, 8, 9], [12, end])]
    found = sequence_logprobs(policy, rows, Passes(tokenizer.pad_token_id))
    for (prompt, side), total in zip(rows, found, strict=True):
        logits = policy(input_ids=torch.tensor([prompt + side])).logits[0].log_softmax(-1)
        by_hand = sum(logits[2 + i, token] for i, token in enumerate(side))
        assert total.item() == pytest.approx(by_hand.item(), abs=1e-4)


def test_a_batch_holds_both_sides_of_a_pair_beside_each_other_each_with_its_own_mask():
    pairs = [EncodedPair([5], [6, 2], [7, 8, 2], 0.5), EncodedPair([5, 5], [6, 2], [2], 0.0)]
    batch = collate(paired.rows_of(pairs), 0)
    assert batch.ids.tolist() == [[5, 6, 2, 0], [5, 7, 8, 2], [5, 5, 6, 2], [5, 5, 2, 0]]
    assert batch.completion.int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]]
    assert batch.mask.sum(1).tolist() == [3, 4, 4, 3]


@pytest.mark.parametrize("loss", PAIRED)
def test_how_a_step_is_cut_or_ordered_changes_neither_loss_nor_gradient(loss, parent, tokenizer, tmp_path):
    pairs = encoded(tokenizer, tmp_path / "s", planted_pairs(8, seed=0))
    config, found = build(PreferenceConfig, {"loss": loss, **PAIRED[loss]}), []
    start = frozen_logprobs(load_policy(parent.path), paired.rows_of(pairs), Passes(0)).view(-1, 2)
    reference, weights = start - torch.linspace(0, 3, 16).view(8, 2), torch.linspace(0.5, 2, 8)
    for tokens, order in ((1, range(8)), (200, range(8)), (10**9, range(8)), (10**9, [5, 2, 0, 7, 1, 3, 4, 6])):
        model, order = load_policy(parent.path), list(order)
        known = None if loss in {"simpo", "orpo"} else reference[order]
        stats = paired.accumulate(
            model, [pairs[i] for i in order], known, weights[order], config, Passes(0, tokens)
        )
        found.append((stats[paired.loss_key(loss)], gradients(model)))
    for other, gradient in found[1:]:
        assert other == pytest.approx(found[0][0], rel=1e-5)
        assert (gradient - found[0][1]).norm() <= 1e-5 * found[0][1].norm()


def test_a_pair_of_weight_two_counts_as_two_pairs(parent, tokenizer, tmp_path):
    first, second = encoded(tokenizer, tmp_path / "s", planted_pairs(2, seed=0))
    config, found = build(PreferenceConfig, {}), []
    for pairs, weights in (([first, second], [2.0, 1.0]), ([first, first, second], [1.0, 1.0, 1.0])):
        model = load_policy(parent.path)
        reference = torch.tensor([[-9.0, -5.0]]).expand(len(pairs), 2)
        stats = paired.accumulate(model, pairs, reference, torch.tensor(weights), config, Passes(0))
        found.append((stats["loss_nats"], torch.cat([p.grad.flatten() for p in model.parameters()])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-6)


def test_the_pairs_of_one_ranking_weigh_one_together(tokenizer, tmp_path):
    rows = [pair("Rank.", a, b, comparison=1) for a, b in (("x", "y"), ("x", "z"), ("y", "z"))]
    pairs = encoded(tokenizer, tmp_path / "s", [*rows, pair("Other.", "a", "b", comparison=2)])
    assert [p.weight for p in pairs] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


@pytest.mark.parametrize("loss", sorted(set(PAIRED) - {"sigmoid"}))
def test_every_loss_learns_the_planted_preference(loss, tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0))
    config = {"loss": loss, **PAIRED[loss], "optimization": FAST}
    job = make_job("preference", tmp_path / "out", config, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    lines = metrics_of(tmp_path / "out")
    assert lines[-1]["accuracy"] >= 0.85
    assert lines[-1]["margin"] > lines[0]["margin"] + 0.05
    assert ("log_ratio_nats" in lines[0]) == (loss not in {"simpo", "orpo"})


def test_the_likelihood_term_keeps_the_chosen_completions_likely(tmp_path, parent):
    snapshot, drops = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0)), []
    for weight in (0.0, 1.0):
        config = {"terms": {"nll_weight": weight}, "optimization": {**FAST, "learning_rate": 1e-2}}
        out = tmp_path / str(weight)
        run(make_job("preference", out, config, snapshot=snapshot, parent=parent), tmp_path)
        drops.append(metrics_of(out)[-1]["chosen_drop_nats"])
    assert drops[1] < drops[0]


def test_a_run_ends_when_the_chosen_completions_have_lost_too_much(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0))
    config = {"max_chosen_drop_nats": 1e-6, "optimization": {**FAST, "learning_rate": 3e-2, "epochs": 8}}
    run(make_job("preference", tmp_path / "out", config, snapshot=snapshot, parent=parent), tmp_path)
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert "chosen_drop_nats" in card["stopped_early"]
    assert card["steps"] < 32


def test_held_out_groups_choose_the_weights_and_are_not_trained_on(tmp_path, parent, tokenizer):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(240, seed=0, groups=24))
    data = read_data(tokenizer, tmp_path / "s", build(PreferenceConfig, {}), 0)
    assert len(data.train) + len(data.validation) == 240
    assert 8 <= len(data.validation) <= 24
    config = {"optimization": {**FAST, "epochs": 1, "watch_every": 5}}
    run(make_job("preference", tmp_path / "out", config, snapshot=snapshot, parent=parent), tmp_path)
    measured = {row["step"]: row["validation_loss"] for row in metrics_of(tmp_path / "out") if "validation_loss" in row}
    card = json.loads((tmp_path / "out" / "checkpoint" / "card.json").read_text())
    assert card["best_step"] == min(measured, key=measured.get)
    assert card["validation_pairs"] == len(data.validation)


def test_a_snapshot_without_a_pair_that_fits_is_refused(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(4, seed=0))
    job = make_job("preference", tmp_path / "out", {"max_length": 2}, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT
    assert "at most 2 tokens" in result["reason"]


@pytest.mark.parametrize("loss", ["sigmoid", "kto"])
def test_comparisons_weigh_what_the_weights_file_says(loss, tmp_path, tokenizer):
    rows = [pair(f"Ask {i}.", "yes", "no", comparison=i) for i in range(3)]
    write_snapshot(tmp_path / "s", rows)
    weights = tmp_path / "weights.json"
    weights.write_text('{"comparisons": {"1": 0.5, "2": 0}}')
    config = build(PreferenceConfig, {"loss": loss, "terms": {"weights_file": str(weights)}})
    found = sorted(item.weight for item in read_data(tokenizer, tmp_path / "s", config, 0).train)
    assert found == ([0.5, 1.0] if loss == "sigmoid" else [0.5, 0.5, 1.0, 1.0])
    weights.write_text('{"annotators": {"ann": 0.5}}')
    with pytest.raises(JobError, match="names none"):
        read_data(tokenizer, tmp_path / "s", config, 0)
