"""What a completion earns: each rule by hand, the models by their own scores, and the shaping of the sum."""

import pytest
import torch

from alignment.config import Input, JobError, build
from alignment.config.online import Rewarding, RewardTerm
from alignment.models.checkpoints import load_reward, reward_from_policy, save_checkpoint
from alignment.models.scores import encode_text_row, scores_of, unit_scores
from alignment.sampling.decode import Sample
from alignment.sampling.rewards import reward_sources, rewards_of, rule_score
from alignment.sampling.rollouts import Completion, Prompt
from tests.alignment.snapshots import make_job, user
from tests.tiny_models import make_tiny_reward

PROMPT = Prompt("p", user("Why?"), [5, 6])


def completion(text: str, finished: bool = True) -> Completion:
    return Completion(PROMPT, Sample([7, 8], text, [-1.0, -1.0], finished))


@pytest.mark.parametrize(
    ("term", "text", "score"),
    [
        ({"kind": "contains", "pattern": "Thank you"}, "Well, thank YOU.", 1.0),
        ({"kind": "contains", "pattern": "a.c"}, "abc", 0.0),  # a phrase, no expression
        ({"kind": "matches", "pattern": r"\d+ apples"}, "I have 12 apples.", 1.0),
        ({"kind": "matches", "pattern": r"^\d+$"}, "12 apples", 0.0),
        ({"kind": "format", "pattern": "<think>.*</think>.+"}, "<think>a\nb</think>\n4\n", 1.0),
        ({"kind": "format", "pattern": "<think>.*</think>.+"}, "4 <think></think>", 0.0),
        ({"kind": "length", "words": 4}, "one two three four", 1.0),
        ({"kind": "length", "words": 4}, "one two three", 0.75),
        ({"kind": "length", "words": 4}, "one " * 9, 0.0),
        ({"kind": "length", "words": 4}, "", 0.0),
    ],
)
def test_every_rule_by_hand(term, text, score):
    assert rule_score(build(RewardTerm, term), text) == score


def test_the_sum_is_weighted_penalised_and_bounded(tmp_path):
    how = build(Rewarding, {
        "terms": [{"kind": "contains", "pattern": "yes", "weight": 2.0},
                  {"kind": "contains", "pattern": "please", "weight": -0.5}],
        "missing_end_penalty": 1.0, "clip": 1.8,
    })  # fmt: skip
    sources = reward_sources(make_job("grpo", tmp_path, {}), how.terms, max_length=64)
    texts = [completion("yes"), completion("yes please"), completion("please"), completion("no", finished=False)]
    found = rewards_of(texts, sources, how)
    assert found.total.tolist() == pytest.approx([1.8, 1.5, -0.5, -1.0])
    assert found.parts["contains_1"].tolist() == [1, 1, 0, 0]
    assert found.parts["contains_2"].tolist() == [0, 1, 1, 0]


def test_a_reward_model_gives_its_own_scores_in_the_order_of_the_completions(tmp_path, parent, tokenizer):
    path = tmp_path / "reward"
    given = Input(str(path), make_tiny_reward(path, parent.path))
    job = make_job("grpo", tmp_path, {}, judge=given)
    [source] = reward_sources(job, [build(RewardTerm, {"input": "judge"})], max_length=64)
    texts = ["Books.", "A much longer answer about books and schools.", "No"]
    rows = [encode_text_row(tokenizer, PROMPT.messages, text, 64) for text in texts]
    alone = [scores_of(load_reward(path), [[row]], tokenizer.pad_token_id).item() for row in rows]
    assert source.name == "judge"
    assert source.score([completion(text) for text in texts]).tolist() == pytest.approx(alone, abs=1e-5)


def test_a_head_of_an_ensemble_is_read_as_the_term_asks(tmp_path, parent, tokenizer):
    path, stored = tmp_path / "reward", {"mean": 0.5, "sd": 2.0}
    torch.manual_seed(0)
    model = reward_from_policy(parent.path, ["reward#0", "reward#1", "cost"])
    card = {"normalisation": {"heads": {"reward#0": stored, "reward#1": {"mean": -1.0, "sd": 0.5}}}}
    job = make_job("grpo", tmp_path, {}, reward=Input(str(path), save_checkpoint(model, tokenizer, path, card)))
    raw = unit_scores(model, [[encode_text_row(tokenizer, PROMPT.messages, "Books.", 64)]], tokenizer.pad_token_id)[0]
    first, second = (raw[0].item() - 0.5) / 2, (raw[1].item() + 1) / 0.5

    def said(how, **term):
        sources = reward_sources(job, build(Rewarding, {"terms": [term], **how}).terms, max_length=64)
        return sources[0].score([completion("Books.")]).item()

    assert said({}) == pytest.approx(raw[:2].mean().item(), abs=1e-5)
    assert said({"normalize": True}) == pytest.approx((first + second) / 2, abs=1e-4)
    assert said({}, aggregate="min") == pytest.approx(min(first, second), abs=1e-4)
    doubt = ((first - second) / 2) ** 2
    penalised = said({}, aggregate="penalised", penalty=0.3)
    assert penalised == pytest.approx((first + second) / 2 - 0.3 * doubt, abs=1e-4)
    for how in ({}, {"normalize": True}):
        assert said(how, head="cost") == pytest.approx(raw[2].item(), abs=1e-5)  # its zero is never moved
    with pytest.raises(JobError, match="no head 'helpful'; it has reward#0, reward#1, cost"):
        said({}, head="helpful")
    with pytest.raises(JobError, match="aggregate is 'median'"):
        said({}, aggregate="median")


def test_a_reward_model_without_stored_figures_cannot_be_normalised(tmp_path, parent):
    path = tmp_path / "reward"
    job = make_job("grpo", tmp_path, {}, reward=Input(str(path), make_tiny_reward(path, parent.path)))
    with pytest.raises(JobError, match="holds no mean and deviation"):
        reward_sources(job, build(Rewarding, {"normalize": True}).terms, max_length=64)


def test_what_cannot_be_asked_is_refused(tmp_path):
    job = make_job("grpo", tmp_path, {})
    with pytest.raises(JobError, match="'reward'"):
        reward_sources(job, [RewardTerm()], max_length=64)
    with pytest.raises(JobError, match="pattern"):
        build(RewardTerm, {"kind": "contains"})
    with pytest.raises(JobError, match="regular expression"):
        build(RewardTerm, {"kind": "matches", "pattern": "("})
    with pytest.raises(JobError, match="no source"):
        build(Rewarding, {"terms": []})
