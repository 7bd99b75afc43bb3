"""A whole PPO step in fp32 equals PPO by its definition in float64: loss and gradients of policy and value models.

TRL has had no PPO since 1.13 (the golden figures of its last one are in test_parity_ppo.py), so what is computed beside
ours as the tests run is the definition itself.
"""

import pytest
import torch

from alignment.config import SafePPOConfig, build
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy, load_reward
from alignment.ppo import accumulate, advantages_of, estimate
from alignment.safe import constrained
from alignment.sampling.advantage import whiten
from alignment.sampling.rollouts import batch_of, rollout_logprobs, rollout_tensors
from alignment.sampling.values import PolicyAndValue
from tests.alignment import ppo_definition as by_definition
from tests.alignment.golden import gradients
from tests.alignment.grpo_cases import ANSWERS, END, REWARDS, completions
from tests.alignment.ppo_definition import Episode, Numbers
from tests.tiny_models import make_tiny_policy, make_tiny_reward

COSTS = [0.5, -1.0, 0.25, 0.0, 1.5, -0.5, 0.75, -0.25]
PRICE = 0.6  # the Lagrange multiplier of the safe case
CASES = {
    "plain": {},
    "narrow clips": {"clip": {"low": 0.02, "high": 0.05}, "value": {"clip": 0.02, "coefficient": 0.7}},
    "everything": {
        "sampling": {"temperature": 0.7}, "clip": {"low": 0.1, "high": 0.3, "dual": 1.1}, "kl": {"beta": 0.4},
        "advantage": {"gamma": 0.97, "gae_lambda": 0.8, "whiten_rewards": True, "bootstrap_unfinished": True},
    },
    "safe": {"advantage": {"gamma": 0.99}, "kl": {"beta": 0.2}},
}  # fmt: skip


def config_of(case: str) -> SafePPOConfig:
    sampling = {"prompts": 2, "completions": 4, "max_new_tokens": 8, "passes": 1}
    given = {"prompts": "p.jsonl", **CASES[case]}
    return build(SafePPOConfig, {**given, "sampling": {**sampling, **given.get("sampling", {})}})


def numbers_of(config: SafePPOConfig) -> Numbers:
    how, clip, value = config.advantage, config.clip, config.value
    return Numbers(
        config.sampling.temperature, config.kl.beta, how.gamma, how.gae_lambda, clip.low, clip.high, clip.dual,
        value.clip, value.coefficient, how.whiten_rewards,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Each model as it sampled or judged, and the policy and the value models after some steps."""
    folder = tmp_path_factory.mktemp("ppo")
    for seed, name in enumerate(("old", "policy", "reference")):
        make_tiny_policy(folder / name, seed=seed)
    for seed, name in enumerate(("value", "value-now", "cost_value", "cost_value-now")):
        make_tiny_reward(folder / name, folder / "old", seed=seed)
    return folder


class Learnt:
    """What the definition says of the rollout and of the step, for one case."""

    def __init__(self, models, prompts, config, critics):
        self.models, self.prompts, self.config, self.critics = models, prompts, config, critics
        self.numbers = numbers_of(config)
        with torch.no_grad():
            self.old = self.logprobs(by_definition.policy_of(models / "old"))
            self.reference = self.logprobs(by_definition.policy_of(models / "reference"))
        found = {"value": self.learn("value", REWARDS, self.reference)}
        if "cost_value" in critics:
            found["cost_value"] = self.learn("cost_value", COSTS, None)
        self.worth = {name: worth for name, (worth, _) in found.items()}
        combined = found["value"][1]
        self.returns = {name: sums(advantage, worth) for name, (worth, advantage) in found.items()}
        if "cost_value" in critics:
            pairs = zip(combined, found["cost_value"][1], strict=True)
            combined = [[(r - PRICE * c) / (1 + PRICE) for r, c in zip(*rows, strict=True)] for rows in pairs]
        self.advantage = by_definition.whitened(combined, keep_mean=False)

    def episodes(self, earned):
        goes_on = self.config.advantage.bootstrap_unfinished
        return [
            Episode(prompt, answer, reward, goes_on and answer[-1] != END)
            for prompt, answer, reward in zip(self.prompts, ANSWERS, earned, strict=True)
        ]

    def logprobs(self, policy):
        how = self.config.sampling.temperature
        return [torch.stack(by_definition.log_probabilities(policy, e, how)).tolist() for e in self.episodes(REWARDS)]

    def learn(self, name, earned, reference):
        """(values, advantages) of every token, not yet whitened."""
        critic, episodes = by_definition.value_of(self.models / name), self.episodes(earned)
        with torch.no_grad():
            worth = [[float(v) for v in by_definition.values(critic, e)] for e in episodes]
        references = reference or self.old
        rows = zip(episodes, self.old, references, strict=True)
        paid = [by_definition.rewards(e, old, ref, self.numbers.beta) for e, old, ref in rows]
        if self.numbers.whiten_rewards:
            paid = by_definition.whitened(paid, keep_mean=True)
        found = [
            by_definition.advantages(row, values, self.numbers, goes_on=e.goes_on)
            for row, values, e in zip(paid, worth, episodes, strict=True)
        ]
        return [values[:-1] for values in worth], found

    def step(self):
        """(policy's loss, value models' loss with its coefficient, {model: its gradient})."""
        episodes, numbers = self.episodes(REWARDS), self.numbers
        policy = by_definition.policy_of(self.models / "policy")
        critics = {name: by_definition.value_of(self.models / f"{name}-now") for name in self.critics}
        first, second = [], []
        for i, episode in enumerate(episodes):
            now = by_definition.log_probabilities(policy, episode, numbers.temperature)
            for t, logprob in enumerate(now):
                first.append(by_definition.policy_loss(logprob, self.old[i][t], self.advantage[i][t], numbers))
            for name, critic in critics.items():
                for t, said in enumerate(by_definition.values(critic, episode)[:-1]):
                    before, target = self.worth[name][i][t], self.returns[name][i][t]
                    second.append(by_definition.value_loss(said, before, target, numbers.value_clip))
        policy_loss = sum(first) / len(first)
        value_loss = numbers.value_coefficient * sum(second) / len(first)
        (policy_loss + value_loss).backward()
        found = {"policy": gradients(policy), **{name: gradients(critic) for name, critic in critics.items()}}
        return policy_loss.item(), value_loss.item(), found


def sums(first, second):
    return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(first, second, strict=True)]


def our_rollout(models, made, tokenizer, config):
    tensors = rollout_tensors(made, tokenizer.pad_token_id, torch.device("cpu"))
    for name in ("old", "reference"):
        tensors[name] = rollout_logprobs(load_policy(models / name), tensors, config.sampling.temperature, tokens=70)
    return {**tensors, "reward": torch.tensor(REWARDS)}


def our_lesson(case, models, tensors, config):
    beta, value = config.kl.beta, load_reward(models / "value")
    if case != "safe":
        return estimate(value, tensors, config, beta=beta)
    reward = advantages_of(value, tensors, tensors["reward"], config, beta=beta)
    cost = advantages_of(load_reward(models / "cost_value"), tensors, torch.tensor(COSTS), config, beta=0.0)
    advantage = whiten(constrained(reward.advantage, cost.advantage, PRICE), batch_of(tensors).completion)
    return {"advantage": advantage, "value": reward.value, "value_return": reward.returns,
            "cost_value": cost.value, "cost_value_return": cost.returns}  # fmt: skip


def rows_at(tensor, at):
    return [row[places].tolist() for row, places in zip(tensor, at, strict=True)]


def assert_rows(ours, theirs):
    assert [len(row) for row in ours] == [len(row) for row in theirs]
    assert max(abs(a - b) for rows in zip(ours, theirs, strict=True) for a, b in zip(*rows, strict=True)) <= 1e-5


@pytest.mark.parametrize("case", CASES)
def test_a_step_equals_the_definition_in_float64(case, models, tmp_path):
    config, tokenizer = config_of(case), load_tokenizer(models / "old")
    critics = ["value", "cost_value"] if case == "safe" else ["value"]
    made = completions(tokenizer, tmp_path)
    theirs = Learnt(models, [completion.prompt.ids for completion in made], config, critics)

    tensors = our_rollout(models, made, tokenizer, config)
    learnt = our_lesson(case, models, tensors, config)
    at = batch_of(tensors).completion
    for name, expected in (("old", theirs.old), ("reference", theirs.reference)):
        assert_rows(rows_at(tensors[name], at), expected)
    assert_rows(rows_at(learnt["advantage"], at), theirs.advantage)
    for name in critics:
        assert_rows(rows_at(learnt[name], at), theirs.worth[name])
        assert_rows(rows_at(learnt[f"{name}_return"], at), theirs.returns[name])

    model = PolicyAndValue(load_policy(models / "policy"), *(load_reward(models / f"{name}-now") for name in critics))
    stats = accumulate(model, {**tensors, **learnt}, config, tokens=70)
    policy_loss, value_loss, expected = theirs.step()
    assert abs(stats.policy_loss - policy_loss) <= 1e-5
    assert abs(config.value.coefficient * stats.value_loss - value_loss) <= 1e-5
    assert 0 < stats.clip_share < 1 and 0 < stats.value_clip_share < 1  # else the clips were not compared
    for name, gradient in expected.items():
        assert gradient.norm() > 0
        assert (gradients(getattr(model, name)) - gradient).norm() <= 1e-4 * gradient.norm()
