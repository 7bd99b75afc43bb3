import random

import pytest
import torch

from alignment.data.batches import batch_at, epoch_batches, mask_of, micro_batches, pad, step_count

DRAW = random.Random(1)
LENGTHS = [DRAW.randrange(5, 200) for _ in range(1000)]


def test_padding_is_on_the_right():
    assert pad([[1, 2, 3], [4]], 0).tolist() == [[1, 2, 3], [4, 0, 0]]
    assert mask_of([[1, 2, 3], [0]]).tolist() == [[True] * 3, [True, False, False]]


def test_an_epoch_holds_every_row_once_and_is_a_function_of_seed_and_epoch():
    batches = epoch_batches(LENGTHS, 8, seed=3, epoch=1)
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    assert batches == epoch_batches(LENGTHS, 8, seed=3, epoch=1)
    assert batches != epoch_batches(LENGTHS, 8, seed=3, epoch=2)
    assert batches != epoch_batches(LENGTHS, 8, seed=4, epoch=1)
    assert all(len(batch) <= 8 for batch in batches) and len(batches) == 125


def test_batches_hold_like_lengths_and_lengths_do_not_drift_over_the_epoch():
    batches = epoch_batches(LENGTHS, 8, seed=0, epoch=0)
    spread = sum(max(LENGTHS[r] for r in b) - min(LENGTHS[r] for r in b) for b in batches) / len(batches)
    assert spread < 30  # 150 in random order
    order = torch.tensor([[float(i), sum(LENGTHS[r] for r in b) / len(b)] for i, b in enumerate(batches)])
    assert abs(torch.corrcoef(order.T)[0, 1]) < 0.25


def test_a_run_begun_in_the_middle_sees_what_the_whole_run_sees():
    whole = [batch_at(LENGTHS, batch_size=16, seed=5, step=step) for step in range(150)]
    backwards = [batch_at(LENGTHS, batch_size=16, seed=5, step=step) for step in reversed(range(150))]
    assert backwards[::-1] == whole


@pytest.mark.parametrize(("rows", "epochs", "limit", "expected"), [(10, 2, 0, 6), (10, 2, 4, 4), (8, 1, 9, 2)])
def test_the_number_of_steps(rows, epochs, limit, expected):
    assert step_count(rows, batch_size=4, epochs=epochs, max_steps=limit) == expected


def test_micro_batches_cover_the_rows_within_their_tokens():
    groups = micro_batches(LENGTHS, range(40, 80), 512)
    assert [row for group in groups for row in group] == list(range(40, 80))
    sizes = [sum(LENGTHS[r] for r in group) for group in groups]
    assert len(groups) > 1 and all(size <= 512 for size in sizes)
    assert all(size + LENGTHS[after[0]] > 512 for size, after in zip(sizes, groups[1:], strict=False))
    assert micro_batches([900], [0], 512) == [[0]]
