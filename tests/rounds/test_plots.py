"""What the live page draws is what the trainers write."""

import pytest

from labelapp.rounds.curves import MEASURED, PLOTS
from tests.alignment.conftest import parent  # noqa: F401, a fixture
from tests.alignment.snapshots import make_job, metrics_of, planted_pairs, write_snapshot
from tests.alignment.stages import FAST, run


@pytest.mark.parametrize(("stage", "config"), [("reward", {"counterfactual_weight": 1.0}), ("preference", {})])
def test_every_plot_has_a_figure_in_the_metrics(stage, config, tmp_path, parent):  # noqa: F811
    snapshot = write_snapshot(tmp_path / "s", planted_pairs(192, seed=0, groups=24))
    plan = {"optimization": {**FAST, "epochs": 1, "max_steps": 3}}
    job = make_job(stage, tmp_path / "out", {**config, **plan}, snapshot=snapshot, parent=parent)
    assert run(job, tmp_path)[0] == 0
    written = {key for row in metrics_of(job.output) for key in row}
    assert {plot.key for plot in PLOTS[stage]} <= written
    assert written & set(MEASURED)
