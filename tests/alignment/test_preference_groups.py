"""Weights of groups in the stage preference: fixed ones, and those that follow the worst-off group."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from alignment.config import EXIT_BAD_INPUT, EXIT_DONE, JobError, PreferenceConfig, build
from alignment.data.pairs import EncodedPair, encode_pairs, read_pairs
from alignment.mitigation.groups import GroupWeights
from alignment.models.checkpoints import load_policy
from alignment.models.sequences import Passes, frozen_logprobs
from alignment.objectives import paired
from alignment.preference import balanced, read_data, robust_step
from tests.alignment.golden import gradients
from tests.alignment.snapshots import WORDS, make_job, metrics_of, pair, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run

ROBUST = {"group_rate": 0.3}


def torn_pairs(n: int, *, seed: int) -> list[dict]:
    """Every twelfth comparison is of the few, to whom "great" matters and who dislike "sure".

    The many mostly like "sure", and one in five of theirs is about "great" too. The prompts' own groups are something
    else: the file says who is who.
    """
    generator, rows = np.random.default_rng(seed), []
    for i in range(n):
        few, first = i % 12 == 0, str(generator.choice(WORDS))
        words = [" ".join(generator.choice(WORDS, size=3)) for _ in range(2)]
        good, bad = ("great no", "bad sure") if few else ("great", "bad") if i % 5 == 0 else ("sure", "no")
        rows.append(pair(f"Argue that {first}s help.", f"{words[0]} {good}", f"{words[1]} {bad}",
                         comparison=i, group=f"prompts {i // 12 % 10}"))  # fmt: skip
    return rows


def names_of(n: int) -> dict[str, str]:
    return {str(i): "few" if i % 12 == 0 else "many" for i in range(n)}


def accuracies(checkpoint, parent, tokenizer, folder) -> dict[str, float]:
    """Share of unseen pairs of either group that the policy's implicit rewards order as the group does."""
    rows, names = read_pairs(write_snapshot(folder, torn_pairs(240, seed=9)).path, "train"), names_of(240)
    pairs, _ = encode_pairs(tokenizer, rows, 128)
    moved, before = (frozen_logprobs(load_policy(p), paired.rows_of(pairs), Passes(0)) for p in (checkpoint, parent))
    right = paired.difference((moved - before).view(-1, 2)) > 0
    groups = np.array([names[str(row.comparison)] for row in rows])
    return {group: right.numpy()[groups == group].mean() for group in ("few", "many")}


@pytest.fixture
def learnt(tmp_path, parent, tokenizer):
    """A function that trains under a mitigation and returns the accuracies and the checkpoint's card."""
    snapshot = write_snapshot(tmp_path / "s", torn_pairs(240, seed=0))
    (tmp_path / "groups.json").write_text(json.dumps(names_of(240)))

    def train(name: str, **config) -> tuple[dict[str, float], dict]:
        how = {"groups_file": str(tmp_path / "groups.json"), **config.pop("mitigation", {})}
        config = {"optimization": {**FAST, "epochs": 2}, **config, "mitigation": how}
        job = make_job("preference", tmp_path / name, config, snapshot=snapshot, parent=parent)
        exit_code, result = run(job, tmp_path)
        assert exit_code == EXIT_DONE, result
        checkpoint = tmp_path / name / "checkpoint"
        card = json.loads((checkpoint / "card.json").read_text())
        return accuracies(checkpoint, parent.path, tokenizer, tmp_path / f"{name} unseen"), card

    return train


@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_the_group_that_the_mean_forgets_is_lifted(learnt, tmp_path, loss):
    given = {"loss": loss, "beta": 0.5 if loss == "ipo" else 0.1}
    plain, robust = learnt("plain", **given), learnt("robust", **given, mitigation=ROBUST)
    assert plain[0]["few"] < 0.3 and robust[0]["few"] > 0.5, (plain[0], robust[0])
    assert robust[0]["many"] > 0.9
    assert "group_weights" not in plain[1]
    assert robust[1]["group_weights"]["few"] > 0.5 > robust[1]["group_weights"]["many"]
    lines = metrics_of(tmp_path / "robust")
    assert lines[-1]["heaviest_group"] > 0.5 and "validation_worst_loss" in lines[-1]


def test_groups_that_count_alike_lift_it_too(learnt):
    plain, alike = learnt("plain"), learnt("alike", mitigation={"group_balance": True})
    assert plain[0]["few"] < 0.3 and alike[0]["few"] > 0.5, (plain[0], alike[0])
    assert alike[0]["many"] > 0.85


def test_balanced_pairs_weigh_alike_by_what_they_count():
    """One ranking of three in the group of the few is three pairs, but one judgment."""
    pairs = [EncodedPair([1], [2], [3], 0.0, weight, group)
             for weight, group in [(1.0, "many")] * 3 + [(1 / 3, "few")] * 3]  # fmt: skip
    found = balanced(pairs)
    assert [one.weight for one in found] == pytest.approx([2 / 3] * 3 + [2 / 3] * 3)


def test_the_file_names_groups_after_the_prompts_own_have_split_the_rows(tmp_path, tokenizer):
    snapshot = write_snapshot(tmp_path / "s", torn_pairs(240, seed=0))
    (tmp_path / "groups.json").write_text(json.dumps(names_of(240)))
    named = {"mitigation": {"groups_file": str(tmp_path / "groups.json"), "group_balance": True}}
    plain, found = (read_data(tokenizer, Path(snapshot.path), build(PreferenceConfig, config), seed=0)
                    for config in ({}, named))  # fmt: skip
    assert {one.group for one in found.train} == {one.group for one in found.validation} == {"few", "many"}
    assert [one.prompt for one in plain.validation] == [one.prompt for one in found.validation]
    many = sum(one.group == "many" for one in found.train)
    assert {one.weight for one in plain.train} == {1.0}
    assert {(one.group, round(one.weight, 6)) for one in found.train} == {
        ("few", 5.0), ("many", round(len(found.train) / 2 / many, 6))}  # few are 12 times rarer: the limit is 5


def test_a_step_is_that_of_the_groups_means_under_their_weights(policy, parent, tokenizer, tmp_path):
    rows = [row | {"group": group} for row, group in zip(planted_pairs(4, seed=0), "aaab", strict=True)]
    pairs, _ = encode_pairs(tokenizer, read_pairs(write_snapshot(tmp_path / "s", rows).path, "train"), 128)
    config, passes = build(PreferenceConfig, {"mitigation": ROBUST}), Passes(0)
    reference = frozen_logprobs(policy, paired.rows_of(pairs), passes).view(-1, 2) - torch.arange(8).view(4, 2)
    groups = GroupWeights([one.group for one in pairs], rate=0.3)
    groups.weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    own = torch.tensor([1.0, 1.0, 2.0, 1.0])
    found = robust_step(policy, range(4), pairs, reference, own, groups, config, passes)
    by_hand = load_policy(parent.path)
    losses = torch.stack([
        paired.pair_losses(paired.sequence_logprobs(by_hand, paired.rows_of([one]), passes).view(-1, 2),
                           reference[i : i + 1], paired.lengths_of([one], reference), config)[0]
        for i, one in enumerate(pairs)
    ])  # fmt: skip
    means = (losses[:3] * own[:3]).sum() / own[:3].sum(), losses[3]
    objective = 0.2 * means[0] + 0.8 * means[1]
    objective.backward()
    assert found["loss_nats"] == pytest.approx(objective.item(), rel=1e-5)
    assert (gradients(policy) - gradients(by_hand)).norm() <= 1e-4 * gradients(by_hand).norm()
    assert groups.losses.tolist() == pytest.approx([mean.item() for mean in means], rel=1e-5)
    raised = torch.tensor([0.2, 0.8]).log() + 0.3 * torch.stack(means).detach()
    assert groups.weights.tolist() == pytest.approx((0.9 * raised.softmax(0) + 0.05).tolist(), rel=1e-5)


def test_the_worst_off_group_has_enough_rows_to_tell():
    assert paired.worst_off([1.0] * 8 + [3.0] * 8 + [9.0] * 2, list("a" * 8 + "b" * 8 + "c" * 2)) == 3.0
    assert paired.worst_off([1.0, 3.0], ["a", "b"]) == 2.0


def test_groups_are_refused_where_they_cannot_weigh(tmp_path, parent):
    with pytest.raises(JobError, match="kto learns from no comparisons"):
        build(PreferenceConfig, {"loss": "kto", "mitigation": ROBUST})
    with pytest.raises(JobError, match=r"mitigation.group_balance is True: false beside group_rate"):
        build(PreferenceConfig, {"mitigation": {**ROBUST, "group_balance": True}})
    with pytest.raises(JobError, match="Groups has no field 'length_penalty'"):
        build(PreferenceConfig, {"mitigation": {"length_penalty": 0.3}})
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(4, seed=0))
    config = {"mitigation": {"groups_file": str(tmp_path / "absent.json")}}
    job = make_job("preference", tmp_path / "out", config, snapshot=snapshot, parent=parent)
    exit_code, result = run(job, tmp_path)
    assert exit_code == EXIT_BAD_INPUT and "cannot read the groups" in result["reason"]
