"""A reward run of every kind of label and head, killed at random moments, ends in the artifact it would have made."""

import pytest

from tests.alignment.kills import assert_kills_change_nothing
from tests.alignment.snapshots import make_job, write_snapshot
from tests.alignment.stages import FAST
from tests.alignment.test_reward_mitigation import EVERYTHING as MITIGATIONS
from tests.alignment.test_reward_mitigation import voted_snapshot
from tests.alignment.test_reward_variants import EVERYTHING, RANKED, pairs_of, planted_judgments

ADAPTED = {**RANKED, "lora": {"rank": 4, "dropout": 0.2}}
SWAPPED = {**EVERYTHING, "counterfactual_weight": 0.5, "heads": {"ensemble": 3, "safety": 1.0}}
PLAN = {**FAST, "batch_size": 4, "checkpoint_every": 3, "watch_every": 4}


def judged_snapshot(path):
    rows = planted_judgments(36, seed=0, size=3)
    return write_snapshot(path, pairs_of(rows), [], rows)


@pytest.mark.parametrize(
    ("config", "snapshot"),
    [(ADAPTED, judged_snapshot), (SWAPPED, judged_snapshot), ({"mitigation": MITIGATIONS}, voted_snapshot)],
    ids=["rankings, adapter, dropout", "ensemble, cost, swaps", "every mitigation"],
)
def test_a_killed_run_resumes_to_the_very_same_artifact(tmp_path, parent, config, snapshot):
    inputs = {"snapshot": snapshot(tmp_path / "s"), "parent": parent}
    config = {**config, "optimization": {**PLAN, "epochs": 4}}
    assert_kills_change_nothing(make_job("reward", tmp_path, config, **inputs), tmp_path, kills=2)
