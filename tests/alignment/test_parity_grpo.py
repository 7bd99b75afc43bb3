"""Our GRPO, DAPO, Dr. GRPO, GSPO and RLOO equal TRL's, live: the same weights, completions and rewards."""

import pytest

pytest.importorskip("trl", reason="TRL is in the dev extra only")

from tests.alignment.golden import assert_equal, assert_golden, load
from tests.alignment.golden.make_grpo import theirs
from tests.alignment.grpo_cases import CASES, make_models, ours


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("parity"))


@pytest.mark.parametrize("name", CASES)
def test_a_step_equals_trl_and_the_golden_file_is_fresh(name, models, tmp_path):
    found = theirs(name, models, tmp_path / "trl")
    assert_equal(ours(name, models, tmp_path / "ours"), found)
    assert_golden(found, load("grpo")[name])
