import json
import math
import random

import numpy as np
import pytest
import torch

from alignment.config import Job, JobError, Optimization
from alignment.loop import (
    STATE,
    Metrics,
    NonFiniteStep,
    clipped_step,
    load_state,
    make_optimizer,
    read_jsonl,
    save_state,
    schedule,
)
from alignment.model import load_policy


def job_to(output, **changes):
    return Job(stage="sft", inputs={}, config={"rows": "r"}, output=str(output), **changes)


def one_step(model, optimizer, seed):
    torch.manual_seed(seed)
    ids = torch.randint(5, 300, (2, 9))
    loss = model(ids, labels=ids).loss
    loss.backward()
    clipped_step(model, optimizer, loss=loss.item(), learning_rate=1e-2, max_grad_norm=1.0)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_the_schedule_warms_up_peaks_and_ends_at_a_tenth():
    rates = [schedule(step, 100, warmup_share=0.1) for step in range(100)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and 0.1 < rates[-1] < 0.11
    assert rates[55] == pytest.approx(0.55) and rates[10:] == sorted(rates[10:], reverse=True)
    linear = [schedule(step, 100, warmup_share=0.0, shape="linear") for step in (0, 50)]
    assert linear == [1.0, pytest.approx(0.55)]


def test_matrices_decay_and_vectors_do_not(policy):
    optimizer = make_optimizer(policy, Optimization(weight_decay=0.1))
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}


def test_the_norm_is_measured_before_clipping_and_bounds_the_update():
    layer = torch.nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    norm = clipped_step(layer, optimizer, loss=1.0, learning_rate=0.5, max_grad_norm=1.0)
    assert norm == 5.0
    assert torch.allclose(before - layer.weight, torch.tensor([[0.3, 0.4]]))
    assert layer.weight.grad is None


@pytest.mark.parametrize(("loss", "gradient"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_a_step_that_is_not_finite_is_refused_before_the_weights_change(loss, gradient):
    layer = torch.nn.Linear(2, 1)
    optimizer = make_optimizer(layer, Optimization())
    before = weights(layer)
    layer.weight.grad, layer.bias.grad = torch.full((1, 2), gradient), torch.ones(1)
    with pytest.raises(NonFiniteStep, match="lower the learning rate"):
        clipped_step(layer, optimizer, loss=loss, learning_rate=0.1, max_grad_norm=1.0)
    assert all(torch.equal(before[name], p) for name, p in layer.named_parameters())


def test_a_saved_state_brings_back_weights_moments_and_every_generator(tmp_path, tiny_policy, policy):
    optimizer = make_optimizer(policy, Optimization())
    for seed in range(3):
        one_step(policy, optimizer, seed)
    save_state(job_to(tmp_path), policy, optimizer, step=3, seconds=1.5, note="extra")
    drawn = [torch.rand(()).item(), random.random(), float(np.random.random())]
    one_step(policy, optimizer, seed=4)

    fresh = load_policy(tiny_policy[0])
    other = make_optimizer(fresh, Optimization())
    state = load_state(job_to(tmp_path / "next", resume_from=str(tmp_path)), fresh, other)
    assert state == {"step": 3, "seconds": 1.5, "extra": {"note": "extra"}}
    assert [torch.rand(()).item(), random.random(), float(np.random.random())] == drawn
    one_step(fresh, other, seed=4)
    expected = weights(policy)
    assert all(torch.equal(expected[name], p) for name, p in weights(fresh).items())


def test_an_attempt_killed_before_its_first_checkpoint_hands_on_what_it_was_given(tmp_path, policy):
    optimizer = make_optimizer(policy, Optimization())
    save_state(job_to(tmp_path / "a"), policy, optimizer, step=3, seconds=1)
    load_state(job_to(tmp_path / "b", resume_from=str(tmp_path / "a")), policy, optimizer)
    assert load_state(job_to(tmp_path / "c", resume_from=str(tmp_path / "b")), policy, optimizer)["step"] == 3


def test_without_a_saved_state_the_run_starts_at_the_beginning(tmp_path, policy):
    optimizer = make_optimizer(policy, Optimization())
    assert load_state(job_to(tmp_path), policy, optimizer)["step"] == 0
    assert load_state(job_to(tmp_path, resume_from=str(tmp_path / "empty")), policy, optimizer)["step"] == 0


def test_the_state_of_another_job_is_refused(tmp_path, policy):
    optimizer = make_optimizer(policy, Optimization())
    save_state(job_to(tmp_path), policy, optimizer, step=1, seconds=0)
    with pytest.raises(JobError, match="belongs to another job"):
        load_state(job_to(tmp_path, resume_from=str(tmp_path), seed=1), policy, optimizer)


def test_a_damaged_state_is_a_sentence(tmp_path, policy):
    optimizer = make_optimizer(policy, Optimization())
    save_state(job_to(tmp_path), policy, optimizer, step=1, seconds=0)
    whole = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JobError, match="start again without resume_from"):
        load_state(job_to(tmp_path, resume_from=str(tmp_path)), policy, optimizer)


def test_metrics_are_lines_that_a_reader_sees_at_once(tmp_path):
    metrics = Metrics(tmp_path, steps=2, seconds=100.0)
    metrics.write(1, loss_nats=0.5)
    (row,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert (row["step"], row["steps"], row["loss_nats"]) == (1, 2, 0.5) and row["seconds"] >= 100


def test_a_broken_line_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n\n[1]\n')
    with pytest.raises(JobError, match="line 3 must be a JSON object, got list"):
        list(read_jsonl(tmp_path / "rows.jsonl", "rows"))
    with pytest.raises(JobError, match="cannot read the rows"):
        list(read_jsonl(tmp_path / "absent.jsonl", "rows"))


def test_a_line_separator_inside_a_text_does_not_end_its_row(tmp_path):
    row = {"content": "one\u2028two\u2029three\u0085four"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(read_jsonl(tmp_path / "rows.jsonl", "rows")) == [(1, row)]
