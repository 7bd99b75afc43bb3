"""Our reward losses equal TRL's, live: the same weights, text rows through both tokenisations and collators."""

import pytest

pytest.importorskip("trl", reason="TRL is in the dev extra only")

from tests.alignment.golden import assert_equal, assert_golden, load
from tests.alignment.golden.make_reward import theirs
from tests.alignment.reward_cases import CASES, make_models, ours


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("parity"))


@pytest.mark.parametrize("name", CASES)
def test_a_step_equals_trl_and_the_golden_file_is_fresh(name, models, tmp_path):
    found = theirs(name, models, tmp_path / "trl")
    assert_equal(ours(name, models, tmp_path / "snapshot"), found)
    assert_golden(found, load("reward")[name])
