"""The DPO stage: it starts exactly at its reference, moves towards the planted preference, and never past a NaN."""

import json
import math

import pytest
import torch

from alignment.config import EXIT_DONE, PreferenceConfig, build
from alignment.loop import clipped_step, make_optimizer
from alignment.model import load_policy
from alignment.pairs import EncodedPair, collate, encode_pairs, read_pairs
from alignment.preference import accumulate, pair_logprobs, preference_losses, sequence_logprobs
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run


def encoded(tokenizer, folder, rows):
    return encode_pairs(tokenizer, read_pairs(write_snapshot(folder, rows).path, "train"), 128)[0]


@pytest.fixture
def trained(tmp_path, parent):
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(64, seed=0))
    job = make_job("preference", tmp_path / "out", {"optimization": FAST}, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_DONE, result
    return tmp_path / "out"


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
        pair_logprobs(load_policy(path), unseen, 0) for path in (trained / "checkpoint", parent.path)
    )
    rewards = moved - before
    assert (rewards[:, 0] > rewards[:, 1]).float().mean() >= 0.9


def test_the_card_names_its_parents_and_what_was_left_out(trained, parent):
    card = json.loads((trained / "checkpoint" / "card.json").read_text())
    assert card["inputs"]["parent"] == parent.sha256
    assert (card["pairs"], card["dropped_pairs"], card["config"]["beta"]) == (64, 0, 0.1)


def test_a_sum_over_the_completion_holds_its_end_and_no_prompt(policy, tokenizer):
    one = EncodedPair(prompt=[7, 8, 9], chosen=[10, 11, tokenizer.eos_token_id], rejected=[12, tokenizer.eos_token_id],
                      margin=0.0, tie=False)  # fmt: skip
    found = sequence_logprobs(policy, [one], tokenizer.pad_token_id)[0]
    for side, total in zip((one.chosen, one.rejected), found, strict=True):
        logits = policy(input_ids=torch.tensor([one.prompt + side])).logits[0].log_softmax(-1)
        by_hand = sum(logits[2 + i, token] for i, token in enumerate(side))
        assert total.item() == pytest.approx(by_hand.item(), abs=1e-4)


def test_a_batch_holds_all_chosen_then_all_rejected_each_with_its_own_mask():
    pairs = [EncodedPair([5], [6, 2], [7, 8, 2], 0.5, False), EncodedPair([5, 5], [6, 2], [2], 0.0, True)]
    batch = collate(pairs, 0)
    assert batch.ids.tolist() == [[5, 6, 2, 0], [5, 5, 6, 2], [5, 7, 8, 2], [5, 5, 2, 0]]
    assert batch.completion_mask.int().tolist() == [[0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0]]
    assert batch.mask.sum(1).tolist() == [3, 4, 4, 3]


def test_how_a_step_is_cut_changes_neither_loss_nor_weights(parent, tokenizer, tmp_path):
    pairs = encoded(tokenizer, tmp_path / "s", planted_pairs(8, seed=0))
    config, found = build(PreferenceConfig, {}), []
    for tokens in (1, 200, 10**9):
        model = load_policy(parent.path)
        reference = pair_logprobs(model, pairs, 0) - torch.linspace(0, 3, 16).view(8, 2)
        stats = accumulate(model, pairs, reference, config, pad_id=0, tokens=tokens)
        norm = clipped_step(
            model, make_optimizer(model, config.optimization), loss=1.0, learning_rate=1e-3, max_grad_norm=1.0
        )
        found.append((stats.loss_nats, norm))
    assert found[0] == pytest.approx(found[2], rel=1e-5)
    assert found[1] == pytest.approx(found[2], rel=1e-5)


def test_a_larger_beta_makes_the_same_log_ratio_cost_less():
    policy, reference = torch.tensor([[-5.0, -9.0]]), torch.tensor([[-6.0, -8.0]])
    costs = [
        preference_losses(policy, reference, build(PreferenceConfig, {"beta": b})).item() for b in (0.1, 1.0)
    ]
    assert costs[1] < costs[0] < math.log(2)
