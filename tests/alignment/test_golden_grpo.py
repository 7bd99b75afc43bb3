"""Our group-relative losses equal what TRL computed, from prompts and rewards to the gradient; TRL is not needed."""

import pytest

from tests.alignment.golden import assert_golden, load
from tests.alignment.grpo_cases import CASES, make_models, ours

GOLDEN = load("grpo")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_what_trl_computed(name, models, tmp_path):
    assert_golden(ours(name, models, tmp_path), GOLDEN[name])


def test_the_cases_say_different_things():
    losses = [case["loss"] for case in GOLDEN.values()]
    assert len({round(loss, 4) for loss in losses}) == len(losses)
