"""Our reward, preference and group-relative losses equal TRL's, live: the same weights, rows and collators."""

import pytest

pytest.importorskip("trl", reason="TRL is in the dev extra only")

from tests.alignment.golden import (
    assert_equal,
    assert_golden,
    load,
    make_grpo,
    make_preference,
    make_reward,
)
from tests.alignment.test_golden import EVERY_CASE, SUBJECTS, models  # noqa: F401, a fixture

THEIRS = {"preference": make_preference.theirs, "reward": make_reward.theirs, "grpo": make_grpo.theirs}


@pytest.mark.parametrize(("subject", "name"), EVERY_CASE)
def test_a_step_equals_trl_and_the_golden_file_is_fresh(subject, name, models, tmp_path):  # noqa: F811
    found = THEIRS[subject](name, models[subject], tmp_path / "trl")
    assert_equal(SUBJECTS[subject].ours(name, models[subject], tmp_path / "ours"), found)
    assert_golden(found, load(subject)[name])
