"""What judgments become: labels, rankings and safety labels, with the weights that they should have."""

import json

import pytest

from alignment.config import JobError, Labels
from alignment.data.judgments import EQUAL, Weights, read_votes, read_weights
from alignment.data.labels import Label, said_by_rankings, said_by_votes, said_of_safety
from alignment.objectives.examples import bootstrap, encode, gather
from tests.alignment.snapshots import judgment, write_snapshot

MAJORITY, VOTES = Labels(), Labels(source="votes")
FIRST, SECOND, EQUALS = [[0], [1]], [[1], [0]], [[0, 1]]


def votes_of(tmp_path, *rows):
    snapshot = write_snapshot(tmp_path / f"s{len(list(tmp_path.iterdir()))}", [], [], rows)
    return read_votes(snapshot.path, "train")


def answers(*rankings, comparison=1, **said):
    names = "abcdefghij"
    return [
        judgment("Why?", ["x", "y"], ranking, comparison=comparison, annotator=names[n], **said)
        for n, ranking in enumerate(rankings)
    ]


def labels(votes, how, *, tie_weight=0.0, head="reward", weights=EQUAL):
    return [said.what for said in said_by_votes(votes, head, how, tie_weight, weights)]


def test_only_what_was_asked_to_learn_something_is_a_vote_and_the_latest_answer_counts(tmp_path):
    rows = [
        *answers(FIRST, FIRST, SECOND),
        judgment("Why?", ["x", "y"], SECOND, comparison=1, annotator="a"),  # a's second answer
        judgment("Why?", ["x", "y"], FIRST, comparison=2, purpose="gold"),
        judgment("Why?", ["x", "y"], FIRST, comparison=3, purpose="quiz"),
        judgment("Why?", ["x", "y"], FIRST, comparison=4, origin="swapped", purpose="repeat"),
        judgment("Why?", ["x", "y"], FIRST, comparison=5, split="test"),
        judgment("Why?", ["x", "y"], FIRST, comparison=6, purpose="reask"),
    ]
    found = votes_of(tmp_path, *rows)
    assert [[vote.comparison for vote in together] for together in found] == [[1, 1, 1], [6]]
    assert [vote.ranking for vote in found[0]] == [SECOND, FIRST, SECOND]


def test_the_majority_is_one_label_and_the_votes_are_shares(tmp_path):
    votes = votes_of(tmp_path, *answers(SECOND, SECOND, SECOND, FIRST))
    assert labels(votes, MAJORITY) == [Label(1, 0, (1.0, 0.0, 0.0), 0.0, 1.0)]
    assert labels(votes, VOTES) == [Label(1, 0, (0.75, 0.25, 0.0), 0.0, 1.0)]


def test_a_pair_without_a_majority_is_no_majority_label_but_half_a_vote_for_each(tmp_path):
    votes = votes_of(tmp_path, *answers(SECOND, FIRST))
    assert labels(votes, MAJORITY) == []
    assert labels(votes, VOTES) == [Label(0, 1, (0.5, 0.5, 0.0), 0.0, 1.0)]


def test_ties_count_as_the_tie_weight_says(tmp_path):
    votes = votes_of(tmp_path, *answers(FIRST, EQUALS, EQUALS, EQUALS))
    assert labels(votes, MAJORITY) == []
    assert labels(votes, MAJORITY, tie_weight=0.5) == [Label(0, 1, (0.0, 0.0, 1.0), 0.0, 0.5)]
    assert labels(votes, VOTES) == [Label(0, 1, (1.0, 0.0, 0.0), 0.0, 0.25)]  # three of four votes are left out
    assert labels(votes, VOTES, tie_weight=1.0) == [Label(0, 1, (0.25, 0.0, 0.75), 0.0, 1.0)]
    (half,) = labels(votes, VOTES, tie_weight=0.5)
    assert half.outcomes == pytest.approx((0.4, 0.0, 0.6)) and half.weight == pytest.approx(2.5 / 4)


def test_strength_is_the_mean_of_the_majority_as_a_share_of_the_strongest_grade(tmp_path):
    rows = [
        judgment("Why?", ["x", "y"], FIRST, comparison=1, annotator="a", strength=-3, max_strength=3),
        judgment("Why?", ["x", "y"], FIRST, comparison=1, annotator="b", strength=-1, max_strength=4),
        judgment("Why?", ["x", "y"], SECOND, comparison=1, annotator="c", strength=3, max_strength=3),
    ]
    (label,) = labels(votes_of(tmp_path, *rows), VOTES)
    assert label.margin == pytest.approx((1 + 0.25) / 2)


def test_annotators_and_comparisons_weigh_as_the_file_says(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({"comparisons": {"1": 0.5}, "annotators": {"a": 0.2, "b": 0}}))
    weights = read_weights(str(path))
    votes = votes_of(tmp_path, *answers(FIRST, FIRST, SECOND))
    (label,) = labels(votes, VOTES, weights=weights)
    assert (label.first, label.second) == (1, 0)  # c alone outweighs a and b
    assert label.outcomes == pytest.approx((1 / 1.2, 0.2 / 1.2, 0))
    assert label.weight == pytest.approx(0.5 * 1.2 / 3)
    nobody = Weights({}, {"a": 0.0, "b": 0.0, "c": 0.0})
    assert labels(votes, VOTES, weights=nobody) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot read the weights"),
        ("[]", "is no JSON object"),
        ('{"people": {}}', "has no part 'people'"),
        ('{"annotators": {"a": -1}}', "the weight of 'a' in annotators is -1"),
        ('{"comparisons": {"1": true}}', "the weight of '1' in comparisons is True"),
    ],
)
def test_a_weight_that_cannot_be_is_refused_by_name(tmp_path, text, sentence):
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(JobError, match=sentence):
        read_weights(str(path))


def test_ratings_order_the_completions_for_a_criterion(tmp_path):
    rows = [
        judgment("Why?", ["x", "y", "z"], None, comparison=1, ratings={"helpful": [1, 4, None], "brief": [2, 2, 0]}),
    ]
    votes = votes_of(tmp_path, *rows)
    assert labels(votes, MAJORITY, head="helpful") == [Label(1, 0, (1.0, 0.0, 0.0), 0.0, 1.0, "helpful")]
    found = labels(votes, MAJORITY, head="brief", tie_weight=1.0)
    assert [(label.first, label.second, label.outcomes[2]) for label in found] == [(0, 1, 1.0), (0, 2, 0), (1, 2, 0)]
    assert labels(votes, MAJORITY) == []  # nothing was said overall


def test_safety_is_the_share_of_those_who_call_a_text_unsafe(tmp_path):
    rows = [
        judgment("Why?", ["x", "y"], None, comparison=1, annotator="a", safety=["safe", "unsafe"]),
        judgment("Why?", ["x", "y"], None, comparison=1, annotator="b", safety=["unsafe", "unsafe"]),
        judgment("Why?", ["x", "y"], FIRST, comparison=1, annotator="c"),  # says nothing of safety
    ]
    said = said_of_safety(votes_of(tmp_path, *rows), EQUAL)
    found = [(one.texts[0][0]["content"], one.what.unsafe) for one in said]
    assert found == [("x", 0.5), ("y", 1.0)]


def test_the_rankings_of_a_comparison_weigh_as_one(tmp_path):
    rows = [
        judgment("Why?", ["x", "y", "z"], [[2], [0, 1]], comparison=1, annotator="a"),
        judgment("Why?", ["x", "y", "z"], [[0], [1], [2]], comparison=1, annotator="b"),
        judgment("Why?", ["x", "y", "z"], None, comparison=1, annotator="c", both_bad=True),
    ]
    found = [said.what for said in said_by_rankings(votes_of(tmp_path, *rows), "reward", EQUAL)]
    assert [(one.tiers, one.weight) for one in found] == [([[2], [0, 1]], 0.5), ([[0], [1], [2]], 0.5)]


def test_a_completion_that_does_not_fit_leaves_the_rest_of_its_ranking(tmp_path, tokenizer):
    rows = [judgment("Why?", ["x", "y " * 300, "z"], [[1], [2], [0]], comparison=1, safety=["safe", "safe", "unsafe"])]
    votes = votes_of(tmp_path, *rows)
    said = [*said_by_rankings(votes, "reward", EQUAL), *said_by_votes(votes, "reward", VOTES, 0.0, EQUAL)]
    comparisons = gather([*said, *said_of_safety(votes, EQUAL)])
    (example,), dropped = encode(tokenizer, comparisons, 64, {"reward": [0], "cost": [1]})
    assert len(example.texts) == 2 and dropped == 2
    assert [one.tiers for one in example.rankings] == [[[1], [0]]]
    assert [(one.first, one.second) for one in example.labels] == [(1, 0)]
    assert [(one.place, one.unsafe, one.head) for one in example.safety] == [(0, 0.0, 1), (1, 1.0, 1)]


def test_the_bootstrap_of_a_member_is_a_pure_function_with_mean_one():
    drawn = [[bootstrap(7, head, str(comparison)) for comparison in range(2000)] for head in range(2)]
    assert drawn == [[bootstrap(7, head, str(comparison)) for comparison in range(2000)] for head in range(2)]
    assert drawn[0] != drawn[1] != [bootstrap(8, 1, str(comparison)) for comparison in range(2000)]
    for counts in drawn:
        assert sum(counts) / 2000 == pytest.approx(1, abs=0.08)
        assert counts.count(0) / 2000 == pytest.approx(0.368, abs=0.04)


def test_a_row_that_is_no_judgment_is_refused_by_its_line(tmp_path):
    short, unknown = {"ratings": {"helpful": [1]}}, {"safety": ["safe", "unsure"]}
    for broken in ({"ranking": [[0], [5]]}, {"ratings": [1]}, {"completions": None}, short, unknown):
        with pytest.raises(JobError, match="line 1 is no judgment"):
            votes_of(tmp_path, {**judgment("Why?", ["x", "y"], FIRST, comparison=1), **broken})
