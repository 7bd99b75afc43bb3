"""The rule that what is safe wins: every case by hand, and on judgments that reward danger."""

import pytest
import torch

from alignment.config import JobError, PreferenceConfig, build
from alignment.data.judgments import read_votes
from alignment.data.pairs import read_pairs
from alignment.data.safety import decided, safe_side_wins, unsafe_texts
from alignment.losses.preference import direct_preference, implicit_reward
from alignment.preference import read_data
from tests.alignment.snapshots import WORDS, judgment, pair, write_snapshot


def texts(found) -> tuple[str, str] | None:
    return found and (found.chosen[-1]["content"], found.rejected[-1]["content"])


@pytest.mark.parametrize(
    "chosen_unsafe, rejected_unsafe, of_a_pair, of_a_tie",
    [
        (False, False, ("x", "y"), None),
        (False, True, ("x", "y"), ("x", "y")),
        (True, False, ("y", "x"), ("y", "x")),
        (True, True, None, None),
        (None, None, ("x", "y"), None),
        (True, None, ("x", "y"), None),  # of one side nothing is known: the judgment stands
    ],
)
def test_every_case(tmp_path, chosen_unsafe, rejected_unsafe, of_a_pair, of_a_tie):
    (plain,) = read_pairs(write_snapshot(tmp_path / "s", [pair("Why?", "x", "y", margin=0.5)]).path, "train")
    found = decided(plain, chosen_unsafe, rejected_unsafe)
    assert texts(found) == of_a_pair
    assert not found or found.margin == (0.5 if texts(found) == ("x", "y") else 0.0)
    assert texts(decided(plain, chosen_unsafe, rejected_unsafe, tie=True)) == of_a_tie


def test_half_of_the_votes_make_a_completion_unsafe(tmp_path):
    said = [
        judgment("Why?", ["x", "y"], [[0], [1]], comparison=1, annotator=name, safety=["unsafe", word])
        for name, word in (("a", "safe"), ("b", "unsafe"), ("c", "safe"))
    ]
    votes = read_votes(write_snapshot(tmp_path / "s", [], [], said).path, "train")
    assert unsafe_texts(votes) == {(1, "x"): True, (1, "y"): False}


def test_a_tie_goes_to_its_safe_side(tmp_path):
    said = [judgment("Why?", ["x", "y"], [[0, 1]], comparison=1, safety=["unsafe", "safe"])]
    path = write_snapshot(tmp_path / "s", [], [], said).path
    assert [texts(one) for one in safe_side_wins([], read_votes(path, "train"))] == [("y", "x")]


def dangerous(tmp_path):
    """Annotators find every dangerous answer more useful, and say that it is unsafe."""
    rows, said = [], []
    for number, word in enumerate(WORDS * 2):
        danger, other = f"{word} bomb", f"{word} garden"
        rows.append(pair("How?", danger, other, comparison=number, group=f"group {number}"))
        said.append(judgment("How?", [danger, other], [[0], [1]], comparison=number, safety=["unsafe", "safe"]))
    return write_snapshot(tmp_path / "s", rows, [], said)


@pytest.mark.parametrize("rule", [False, True])
def test_a_planted_taste_for_danger_is_turned_around(tmp_path, rule):
    """A policy that is one number: the log-odds of answers with the dangerous word."""
    path = dangerous(tmp_path).path
    pairs = read_pairs(path, "train")
    if rule:
        pairs = safe_side_wins(pairs, read_votes(path, "train"))
    sides = torch.tensor([["bomb" in text[-1]["content"] for text in (p.chosen, p.rejected)] for p in pairs]).double()
    taste = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([taste], lr=1.0)
    for _ in range(50):
        chosen, rejected = (taste * sides).unbind(1)
        loss = direct_preference(implicit_reward(chosen - rejected, torch.zeros(()), beta=0.5)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (taste < -1) if rule else (taste > 1)


def test_the_stage_preference_learns_from_what_the_rule_leaves(tmp_path, tokenizer):
    snapshot = dangerous(tmp_path)
    for rule in (False, True):
        config = build(PreferenceConfig, {"terms": {"safe_side_wins": rule}, "max_length": 64})
        data = read_data(tokenizer, snapshot.path, config, 0)
        answers = [tokenizer.decode(row.chosen) for row in [*data.train, *data.validation]]
        assert len(answers) == 16
        assert all(("bomb" in answer) is not rule for answer in answers)


def test_a_loss_without_pairs_refuses_the_rule():
    with pytest.raises(JobError, match="safe_side_wins is True"):
        build(PreferenceConfig, {"loss": "kto", "terms": {"safe_side_wins": True}})
