"""Our losses equal what TRL computed, from text rows to the gradient; TRL itself need not be installed."""

import pytest

from tests.alignment import grpo_cases, preference_cases, reward_cases
from tests.alignment.golden import assert_golden, load

SUBJECTS = {"preference": preference_cases, "reward": reward_cases, "grpo": grpo_cases}
EVERY_CASE = [(subject, name) for subject, cases in SUBJECTS.items() for name in cases.CASES]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The models of each subject."""
    return {subject: cases.make_models(tmp_path_factory.mktemp(subject)) for subject, cases in SUBJECTS.items()}


@pytest.mark.parametrize(("subject", "name"), EVERY_CASE)
def test_a_step_is_what_trl_computed(subject, name, models, tmp_path):
    ours = SUBJECTS[subject].ours(name, models[subject], tmp_path / "ours")
    assert_golden(ours, load(subject)[name])


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_cases_say_different_things(subject):
    losses = [case["loss"] for case in load(subject).values()]
    assert len({round(loss, 4) for loss in losses}) == len(losses)
