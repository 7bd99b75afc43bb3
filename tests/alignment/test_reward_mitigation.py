"""The mitigation inside the stage reward: what it makes of the data, its terms, and what it does to a trained model."""

import json

import numpy as np
import pytest
import torch

from alignment.config import EXIT_DONE, JobError, RewardConfig, build
from alignment.data.judgments import EQUAL, read_votes
from alignment.data.labels import Judged, Label, said_by_pairs
from alignment.data.pairs import read_pairs
from alignment.losses.mitigation import length_penalty, noisy_bradley_terry
from alignment.losses.pairwise import weighted_mean
from alignment.losses.reward import bradley_terry
from alignment.measures.figures import pearson_of
from alignment.mitigation.annotators import Annotators, Votes
from alignment.mitigation.changes import augmented, balanced, grouped, numbered
from alignment.mitigation.counterfactual import gender_matters
from alignment.models.checkpoints import load_reward, reward_from_policy, score_head
from alignment.models.heads import drop_last_head
from alignment.models.scores import encode_text_row, end_scores, scores_of
from alignment.objectives.examples import Example, gather
from alignment.objectives.reward import batch_of, believed, explaining, length_reliance, terms
from tests.alignment.snapshots import (
    WORDS,
    assistant,
    gendered_pairs,
    judgment,
    make_job,
    metrics_of,
    pair,
    planted_pairs,
    user,
    write_snapshot,
)
from tests.alignment.stages import FAST, run

CPU = torch.device("cpu")


def example(*lengths: int, label: Label, group: str = "g") -> Example:
    return Example(tuple([1] * n for n in lengths), lengths, (label,), (), (), group)


def label(**said) -> Label:
    return Label(0, 1, (1.0, 0.0, 0.0), 0.0, 1.0, 0)._replace(**said)


def config_of(**mitigation) -> RewardConfig:
    return build(RewardConfig, {"margin": "none", "mitigation": mitigation})


# What it makes of the data


def comparisons(tmp_path, *rows) -> list[Judged]:
    return gather(said_by_pairs(read_pairs(write_snapshot(tmp_path / "s", rows).path, "train"), EQUAL))


def test_a_comparison_that_names_a_gender_counts_half_swapped(tmp_path):
    found = augmented(comparisons(tmp_path, pair("Why?", "he is right", "no"), pair("Why?", "yes", "no")))
    assert [[text[-1]["content"] for text in one.texts] for one in found] == [
        ["he is right", "no"], ["she is right", "no"], ["yes", "no"]]  # fmt: skip
    assert [one.said[0].weight for one in found] == [0.5, 0.5, 1.0]
    assert {one.group for one in found} == {"g"}  # a copy never stands on the other side of a split


@pytest.mark.parametrize("text", ["she is pregnant", "he is as tall as Peter", "Mr. Brown said that he was right"])
def test_where_gender_matters_nothing_is_swapped(tmp_path, text):
    assert gender_matters(text)
    assert len(augmented(comparisons(tmp_path, pair("Why?", text, "no")))) == 1


def test_plain_words_of_gender_do_not_matter():
    assert not any(map(gender_matters, ["he said so", "My father was a nurse.", "the king of the hill", "Marked down"]))


def test_groups_come_from_a_file_by_the_comparisons_names(tmp_path):
    rows = comparisons(tmp_path, pair("Why?", "a", "b", comparison=1), pair("How?", "c", "d", comparison=2))
    (tmp_path / "groups.json").write_text(json.dumps({"2": "nurses"}))
    assert [one.group for one in grouped(rows, str(tmp_path / "groups.json"))] == ["g", "nurses"]
    assert [one.group for one in grouped(rows, "")] == ["g", "g"]
    (tmp_path / "list.json").write_text("[]")
    for name, sentence in (("list.json", "must hold one JSON object"), ("absent.json", "cannot read the groups")):
        with pytest.raises(JobError, match=sentence):
            grouped(rows, str(tmp_path / name))


def test_balanced_groups_count_alike():
    examples = [example(1, 1, label=label(), group=group) for group in "aaab"]
    found = balanced(examples)
    assert [one.labels[0].weight for one in found] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])


def test_votes_are_numbered_by_the_pairs_they_are_about(tmp_path):
    rows = [pair("Why?", "x", "y", comparison=1), pair("How?", "x", "y", comparison=2)]
    said = [
        judgment("Why?", ["y", "x"], [[1], [0]], comparison=1, annotator="ann"),
        judgment("Why?", ["y", "x"], [[0], [1]], comparison=1, annotator="bob"),
        judgment("Why?", ["y", "x"], [[0, 1]], comparison=1, annotator="cy"),  # a tie is no vote
    ]
    snapshot = write_snapshot(tmp_path / "s", rows, [], said)
    judged = gather(said_by_pairs(read_pairs(snapshot.path, "train"), EQUAL))
    annotators, votes = numbered(judged, read_votes(snapshot.path, "train"))
    assert annotators == ["ann", "bob", "cy"]
    assert [one.said[0].number for one in judged] == [0, -1]  # nobody's vote on the second is known
    assert (votes.pairs.tolist(), votes.annotators.tolist(), votes.signs.tolist()) == ([0, 0], [0, 1], [1, -1])


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"mitigation": {"length_head": 1}, "heads": {"ensemble": 2}}, "mitigation.length_head is 1"),
        ({"mitigation": {"annotators": True}, "heads": {"safety": 1}}, "mitigation.annotators is True"),
        ({"mitigation": {"group_rate": 0.1, "group_balance": True}}, "mitigation.group_balance is True"),
        ({"mitigation": {"group_rate": 0.1}, "labels": {"ranking": "plackett_luce"}, "margin": "none"},
         "mitigation.group_rate is 0.1"),
        ({"mitigation": {"length_penalty": -1}}, "mitigation.length_penalty is -1"),
    ],
)  # fmt: skip
def test_mitigations_that_do_not_fit_the_rest_are_refused(config, sentence):
    with pytest.raises(JobError, match=sentence):
        build(RewardConfig, config)


# Its terms


def test_the_length_term_is_the_penalty_of_each_heads_own_labels():
    examples = [example(4, 2, label=label()), example(3, 9, label=label()), example(5, 1, label=label(head=1))]
    batch = batch_of(examples, [], CPU)
    scores = torch.tensor([[1.0, 0], [0, 0], [2, 0], [0, 0], [0, 3], [0, 0]])
    lengths = torch.tensor([2.0, 1 / 3]).log()
    expected = (length_penalty(torch.tensor([1.0, 2.0]), lengths) + 1) / 2  # one pair alone is its length
    assert length_reliance(scores, batch).item() == pytest.approx(expected.item(), rel=1e-5)
    found = terms(scores, batch, config_of(length_penalty=0.3))
    assert found["length_penalty"].weight == 0.3
    assert "length_penalty" not in terms(scores, batch, config_of())


def test_the_judgments_are_explained_by_quality_and_length_together():
    batch = batch_of([example(4, 2, label=label())], [], CPU)
    scores = torch.tensor([[1.0, 2.0], [0.5, 0.0]])
    found = terms(scores, batch, config_of(length_head=1.0))["preference_nats"].value
    assert found.item() == pytest.approx(bradley_terry(torch.tensor([3.0]), torch.tensor([0.5])).item())
    assert explaining(scores, config_of()) is scores


def test_beliefs_have_the_gradient_of_the_votes_likelihood():
    """Expectation-maximisation: the pair as it is believed pulls as the votes' own likelihood does."""
    examples = [example(2, 2, label=label(number=number)) for number in range(2)]
    batch, scores = batch_of(examples, [], CPU), torch.tensor([[0.7], [0.2], [-0.4], [1.0]], requires_grad=True)
    votes = Votes(torch.tensor([0, 1]), torch.tensor([0, 1]), torch.tensor([1.0, -1.0]).double(), 2)
    annotators = Annotators(votes, 2)
    annotators.accuracies = torch.tensor([0.9, 0.6]).double()
    first, second = batch.sides(scores)
    voted_for = (first - second) * torch.tensor([1.0, -1.0])
    (likelihood,) = torch.autograd.grad(noisy_bradley_terry(voted_for, torch.tensor([0.9, 0.6])).mean(), scores)
    share = believed(batch, scores, annotators).outcomes[:, 0]
    first, second = batch.sides(scores)
    (expected,) = torch.autograd.grad(
        weighted_mean(bradley_terry(first, second, share=share), batch.weights), scores
    )
    assert torch.allclose(likelihood, expected, atol=1e-6)


def test_the_head_that_stays_gives_the_scores_it_gave(parent, tokenizer):
    torch.manual_seed(0)
    model = reward_from_policy(parent.path, ["reward", "length"])
    ids = torch.tensor([[5, 6, 7, tokenizer.eos_token_id]])
    before = end_scores(model, ids, torch.ones_like(ids).bool())
    drop_last_head(model)
    after = end_scores(model, ids, torch.ones_like(ids).bool())
    assert after.shape == (1, 1) and score_head(model).weight.shape[0] == 1
    assert torch.equal(after[:, 0], before[:, 0])
    assert model.config.num_labels == 1


# What it does to a trained model


def trained(tmp_path, parent, snapshot, name: str, **config):
    plan = {"optimization": {**FAST, "epochs": 5}, **config}
    exit_code, result = run(make_job("reward", tmp_path / name, plan, snapshot=snapshot, parent=parent), tmp_path)
    assert exit_code == EXIT_DONE, result
    card = json.loads((tmp_path / name / "checkpoint" / "card.json").read_text())
    return load_reward(tmp_path / name / "checkpoint"), card


def lengthy_pairs(n: int, *, seed: int) -> list[dict]:
    """People want "great" and not "bad"; and of two answers the longer one, in eight of ten."""
    generator, rows = np.random.default_rng(seed), []
    for row in planted_pairs(n, seed=seed):
        words = [" ".join(generator.choice(WORDS, size=int(size))) for size in generator.integers(3, 9, size=2)]
        side = "chosen" if generator.random() < 0.8 else "rejected"
        rows.append({**row, side: assistant(f"{row[side][0]['content']} {words[0]}"), "margin": 0.0})
    return rows


def taste(model, tokenizer) -> tuple[float, float]:
    """On unseen pairs: (correlation of margin and difference of log length, share right where the worse is longer)."""
    rows = lengthy_pairs(80, seed=5)
    chosen, rejected = ([row[side][0]["content"] for row in rows] for side in ("chosen", "rejected"))
    margins = np.array([
        score_of(model, tokenizer, row["prompt"], better) - score_of(model, tokenizer, row["prompt"], worse)
        for row, better, worse in zip(rows, chosen, rejected, strict=True)
    ])  # fmt: skip
    lengths = np.array([np.log(len(better) / len(worse)) for better, worse in zip(chosen, rejected, strict=True)])
    return pearson_of(margins, lengths)(np.arange(len(rows))), float((margins[lengths < 0] > 0).mean())


def score_of(model, tokenizer, prompt, text) -> float:
    return scores_of(model, [[encode_text_row(tokenizer, prompt, text, 128)]], 0).item()


@pytest.mark.slow
def test_a_planted_taste_for_length_goes_and_the_word_stays(tmp_path, parent, tokenizer):
    """Not for nothing: of the pairs where length and word agree, the model without length knows fewer."""
    snapshot = write_snapshot(tmp_path / "s", lengthy_pairs(96, seed=0))
    found = {}
    for name, mitigation in (("plain", {}), ("penalty", {"length_penalty": 1.0}), ("head", {"length_head": 1.0})):
        model, _ = trained(tmp_path, parent, snapshot, name, mitigation=mitigation)
        found[name] = taste(model, tokenizer)
    assert found["plain"][0] > 0.45, found
    for name in ("penalty", "head"):
        assert abs(found[name][0]) < 0.35, found
        assert found[name][1] >= 0.8, found


@pytest.mark.slow
def test_swapped_copies_take_a_planted_bias_away(tmp_path, parent, tokenizer):
    snapshot = write_snapshot(tmp_path / "s", gendered_pairs(64, seed=0))
    gaps, accuracies = [], []
    for augment in (False, True):
        model, _ = trained(tmp_path, parent, snapshot, f"out{augment}", mitigation={"augment": augment})
        texts = [row["chosen"][0]["content"] for row in planted_pairs(40, seed=5, good="he said")]
        he, she = (
            np.array([score_of(model, tokenizer, user("Argue that books help."), text) for text in side])
            for side in (texts, [text.replace("he said", "she said") for text in texts])
        )
        gaps.append(float((he - she).mean() / np.std([*he, *she])))
        rows = planted_pairs(40, seed=77)
        accuracies.append(np.mean([
            score_of(model, tokenizer, row["prompt"], row["chosen"][0]["content"])
            > score_of(model, tokenizer, row["prompt"], row["rejected"][0]["content"])
            for row in rows
        ]))  # fmt: skip
    assert gaps[0] > 0.5 and abs(gaps[1]) < gaps[0] / 2, gaps
    assert min(accuracies) >= 0.8, accuracies


def voted_snapshot(path, *, pairs: int = 48):
    """Two attentive annotators and one who always takes the first completion that is written."""
    rows, said = planted_pairs(pairs, seed=0), []
    for row in rows:
        texts = sorted([row["chosen"][0]["content"], row["rejected"][0]["content"]])
        best = texts.index(row["chosen"][0]["content"])
        for name, first in (("ann", best), ("bob", best), ("lazy", 0)):
            said.append(judgment(row["prompt"][0]["content"], texts, [[first], [1 - first]],
                                 comparison=row["comparison"], annotator=name, group=row["group"]))  # fmt: skip
    return write_snapshot(path, rows, [], said)


def test_a_careless_annotator_is_named_in_the_card(tmp_path, parent):
    _, card = trained(tmp_path, parent, voted_snapshot(tmp_path / "s"), "out", mitigation={"annotators": True})
    found = card["annotator_accuracies"]
    assert min(found["ann"], found["bob"]) > 0.85 > 0.7 > found["lazy"]
    lines = metrics_of(tmp_path / "out")
    assert lines[-1]["vote_nats"] < lines[0]["vote_nats"]


EVERYTHING = {"length_penalty": 0.3, "length_head": 1.0, "augment": True, "annotators": True, "group_rate": 0.1}


def test_all_of_it_together_is_one_run_that_says_what_it_did(tmp_path, parent):
    snapshot = voted_snapshot(tmp_path / "s", pairs=24)
    model, card = trained(tmp_path, parent, snapshot, "out", mitigation=EVERYTHING, counterfactual_weight=0.5)
    assert model.config.num_labels == 1
    assert sum(card["group_weights"].values()) == pytest.approx(1)
    assert set(card["annotator_accuracies"]) == {"ann", "bob", "lazy"}
    last = metrics_of(tmp_path / "out")[-1]
    assert {"length_penalty", "length_split", "head_overlap", "counterfactual_penalty", "heaviest_group",
            "vote_nats"} <= set(last)  # fmt: skip
