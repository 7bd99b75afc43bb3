"""Several dialogues in one row are the same training as each in a row of its own."""

import random

import pytest
import torch

from alignment.config import JobError, Lora
from alignment.data.batches import bins
from alignment.models.adapters import attach
from alignment.models.checkpoints import load_policy
from alignment.sft import Dialogue, accumulate, demand_packing, join, rows_of
from tests.alignment.architectures import CONFIGS, write_model
from tests.alignment.snapshots import make_job, metrics_of
from tests.alignment.stages import run
from tests.alignment.test_sft import config_of, rows  # noqa: F401, a fixture


def dialogues(count=9):
    draw = random.Random(0)
    made = []
    for _ in range(count):
        ids = [draw.randrange(5, 300) for _ in range(draw.randrange(4, 40))]
        made.append(Dialogue(ids, [draw.randrange(2) for _ in ids]))
    return made


@pytest.fixture(scope="module", params=list(CONFIGS))
def model(request, tmp_path_factory):
    return load_policy(write_model(request.param, tmp_path_factory.mktemp(request.param) / "model"))


def step_of(model, given, **how):
    model.zero_grad()
    loss = accumulate(model, given, 0, **{"micro_tokens": 10**6, **how})
    return loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    "how",
    [{"capacity": 64}, {"capacity": 64, "micro_tokens": 64}, {"capacity": 10**4}, {"micro_tokens": 1}],
    ids=["packed", "packed and cut", "all in one row", "a dialogue at a time"],
)
def test_how_dialogues_are_laid_out_changes_neither_loss_nor_gradients(model, how):
    given = dialogues()
    loss, gradient = step_of(model, given)
    found, again = step_of(model, given, **how)
    assert found == pytest.approx(loss, abs=1e-5)
    assert torch.allclose(again, gradient, atol=1e-5)


def test_the_order_of_the_rows_changes_nothing(model):
    given = dialogues()
    loss, gradient = step_of(model, given)
    for capacity in (0, 64):
        found, again = step_of(model, given[::-1], capacity=capacity)
        assert found == pytest.approx(loss, abs=1e-5) and torch.allclose(again, gradient, atol=1e-5)


def test_padding_changes_nothing(model):
    """A row's loss beside a much longer row, which it is padded to, is its loss alone."""
    short, long = Dialogue([5, 6, 7, 8], [0, 1, 1, 1]), Dialogue([9] * 100, [0] * 100)
    loss, gradient = step_of(model, [short])
    for capacity in (0, 104):
        found, again = step_of(model, [short, long], capacity=capacity)
        assert found == pytest.approx(loss, abs=1e-5) and torch.allclose(again, gradient, atol=1e-5)


def test_an_adapter_packs_too_and_so_does_the_attention_of_bf16(model):
    given = dialogues()
    attach(model, Lora(rank=2), seed=0)
    loss, gradient = step_of(model, given)
    found, again = step_of(model, given, capacity=64)
    assert found == pytest.approx(loss, abs=1e-5) and torch.allclose(again, gradient, atol=1e-5)
    model.set_attn_implementation("blockwise")
    found, again = step_of(model, given, capacity=64)
    assert found == pytest.approx(loss, abs=1e-5) and torch.allclose(again, gradient, atol=1e-5)


def test_a_row_holds_whole_dialogues_and_nobody_predicts_the_first_token_of_one():
    row = join([Dialogue([7, 8, 9], [1, 1, 0]), Dialogue([5, 6], [1, 1])])
    assert row == ([7, 8, 9, 5, 6], [0, 1, 0, 0, 1], [0, 1, 2, 0, 1])
    packed = rows_of(dialogues(), 64)
    assert max(len(row.ids) for row in packed) <= 64 and len(packed) < 9
    assert sum(len(row.ids) for row in packed) == sum(len(d.ids) for d in dialogues())


def test_bins_fill_where_the_least_room_is_left_and_a_longer_row_stays_alone():
    assert bins([5, 6, 4, 3, 20], 10) == [[4], [1, 2], [0, 3]]
    assert bins([], 10) == []
    lengths = [random.Random(1).randrange(1, 200) for _ in range(300)]
    made = bins(lengths, 512)
    assert sorted(i for group in made for i in group) == list(range(300))
    assert all(sum(lengths[i] for i in group) <= 512 for group in made)


def test_a_model_that_mixes_the_texts_of_a_row_is_refused(policy, monkeypatch):
    demand_packing(policy)
    body, forward = policy.model, policy.model.forward
    monkeypatch.setattr(body, "forward", lambda position_ids=None, **given: forward(**given))  # deaf to positions
    with pytest.raises(JobError, match="set packing to false"):
        demand_packing(policy)


def test_a_packed_run_learns_what_an_unpacked_one_does(tmp_path, parent, rows):  # noqa: F811
    def losses(name, **changes):
        job = make_job("sft", tmp_path / name, {**config_of(rows, epochs=1), **changes}, parent=parent)
        run(job, tmp_path)
        return [row["loss_nats"] for row in metrics_of(job.output)]

    assert losses("packed", packing=True) == pytest.approx(losses("plain"), abs=1e-4)
