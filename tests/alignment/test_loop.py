import json
import math
import random

import numpy as np
import pytest
import torch

from alignment.config import Job, JobError, NonFiniteStep, Optimization
from alignment.data.rows import read_jsonl
from alignment.loop import BEST, Guard, Step, Watch, clipped_step, make_optimizer, schedule, train
from alignment.manifest import ArtifactError, verify_sealed
from alignment.metrics import Metrics
from alignment.models.checkpoints import load_policy
from alignment.state import STATE, load_state, replace_tensors, save_state


def job_to(output, **changes):
    return Job(stage="sft", inputs={}, config={"rows": "r"}, output=str(output), **changes)


def one_step(model, optimizer, seed):
    torch.manual_seed(seed)
    ids = torch.randint(5, 300, (2, 9))
    loss = model(ids, labels=ids).loss
    loss.backward()
    clipped_step(model, optimizer, loss=loss.item(), learning_rate=1e-2, max_grad_norm=1.0)


class Counter:
    """A part of a run's state: a text for JSON and a tensor."""

    def __init__(self, note, values):
        self.note, self.values = note, values

    def state_dict(self):
        return {"note": self.note, "values": self.values}

    def load_state_dict(self, state):
        self.note, self.values = state["note"], state["values"]


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
    counter = Counter(note="extra", values=torch.arange(3.0))
    save_state(job_to(tmp_path), policy, optimizer, step=3, seconds=1.5, parts={"counter": counter})
    drawn = [torch.rand(()).item(), random.random(), float(np.random.random())]
    one_step(policy, optimizer, seed=4)

    fresh = load_policy(tiny_policy[0])
    other = make_optimizer(fresh, Optimization())
    counted = Counter(note="", values=torch.zeros(3))
    state = load_state(job_to(tmp_path / "next", resume_from=str(tmp_path)), fresh, other, {"counter": counted})
    assert state == (3, 1.5)
    assert (counted.note, counted.values.tolist()) == ("extra", [0, 1, 2])
    assert [torch.rand(()).item(), random.random(), float(np.random.random())] == drawn
    one_step(fresh, other, seed=4)
    expected = weights(policy)
    assert all(torch.equal(expected[name], p) for name, p in weights(fresh).items())


def test_an_attempt_killed_before_its_first_checkpoint_hands_on_what_it_was_given(tmp_path, policy):
    optimizer = make_optimizer(policy, Optimization())
    save_state(job_to(tmp_path / "a"), policy, optimizer, step=3, seconds=1)
    load_state(job_to(tmp_path / "b", resume_from=str(tmp_path / "a")), policy, optimizer)
    assert load_state(job_to(tmp_path / "c", resume_from=str(tmp_path / "b")), policy, optimizer).step == 3


def test_without_a_saved_state_the_run_starts_at_the_beginning(tmp_path, policy):
    optimizer = make_optimizer(policy, Optimization())
    assert load_state(job_to(tmp_path), policy, optimizer).step == 0
    assert load_state(job_to(tmp_path, resume_from=str(tmp_path / "empty")), policy, optimizer).step == 0


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


@pytest.mark.parametrize("at", [4, 60, -1])
def test_one_flipped_byte_anywhere_in_a_state_is_found_without_torch(tmp_path, policy, at):
    save_state(job_to(tmp_path), policy, make_optimizer(policy, Optimization()), step=1, seconds=0)
    verify_sealed(tmp_path / STATE)
    whole = bytearray((tmp_path / STATE).read_bytes())
    whole[at] ^= 1
    (tmp_path / STATE).write_bytes(whole)
    with pytest.raises(ArtifactError):
        verify_sealed(tmp_path / STATE)


def test_a_state_that_cannot_be_written_leaves_the_one_before_and_nothing_half(tmp_path, policy):
    optimizer = make_optimizer(policy, Optimization())
    save_state(job_to(tmp_path), policy, optimizer, step=1, seconds=0)
    before = (tmp_path / STATE).read_bytes()
    with pytest.raises(AttributeError):
        save_state(job_to(tmp_path), policy, optimizer, step=2, seconds=0, parts={"broken": object()})
    with pytest.raises(ValueError):
        replace_tensors(tmp_path / STATE, {"a": "no tensor"}, {})
    assert (tmp_path / STATE).read_bytes() == before
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["state.safetensors"]


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


def descend(job, targets, *, steps, plan=None, **how):
    """Train one weight towards 0 by squared error; `targets` are what a held-out measurement finds after each step."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(1, 1, bias=False)
    found = iter(targets)

    def take_step(step):
        loss = layer.weight.square().sum() * (step + 1)
        loss.backward()
        return Step(loss.item(), 1, {"loss": loss.item(), "weight": layer.weight.item()})

    watch = Watch(lambda: {"held_out": next(found)}, "held_out") if targets else None
    plan = plan or Optimization(learning_rate=0.1, watch_every=1, checkpoint_every=1)
    return layer, train(job, plan, layer, steps=steps, take_step=take_step, watch=watch, **how)


def lines(output):
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_the_weights_of_the_best_measurement_are_kept_not_the_last(tmp_path):
    layer, facts = descend(job_to(tmp_path), [0.1, 0.9, 0.3], steps=3)
    assert facts == {"steps": 3, "best_step": 2}
    assert layer.weight.item() == pytest.approx(lines(tmp_path)[2]["weight"])  # what the third step started from
    assert [row["held_out"] for row in lines(tmp_path)] == [0.1, 0.9, 0.3]


def test_a_resumed_run_still_knows_the_best_weights_of_the_attempt_before(tmp_path):
    descend(job_to(tmp_path / "a"), [0.9, 0.1], steps=2)
    again = job_to(tmp_path / "b", resume_from=str(tmp_path / "a"))
    layer, facts = descend(again, [0.2], steps=3)
    assert facts["best_step"] == 1
    assert layer.weight.item() == pytest.approx(lines(tmp_path / "a")[1]["weight"])
    assert (tmp_path / "b" / BEST).is_file()


def test_a_guard_ends_the_run_with_its_reason_and_the_best_weights(tmp_path):
    guard = Guard("loss", limit=0.5, remedy="lower the learning rate")
    plan = Optimization(learning_rate=0.9, watch_every=1, checkpoint_every=1)
    _, facts = descend(job_to(tmp_path), [0.2, 0.1, 0.3], steps=3, plan=plan, guards=[guard])
    assert facts["steps"] < 3 and facts["best_step"] == 1
    assert "over its limit 0.5: lower the learning rate" in facts["stopped_early"]


def test_a_run_that_a_guard_ended_and_a_kill_met_is_still_ended(tmp_path):
    guard = Guard("loss", limit=0.5, remedy="lower the learning rate")
    plan = Optimization(learning_rate=0.9, watch_every=1, checkpoint_every=1)
    layer, facts = descend(job_to(tmp_path / "a"), [0.2, 0.1, 0.3], steps=3, plan=plan, guards=[guard])
    again = job_to(tmp_path / "b", resume_from=str(tmp_path / "a"))  # its state was saved, its checkpoint was not
    resumed, told = descend(again, [0.9], steps=3, plan=plan, guards=[guard])
    assert told == facts and torch.equal(resumed.weight, layer.weight)
    assert lines(tmp_path / "b") == []


def test_a_figure_that_is_no_number_is_not_within_a_limit():
    guard = Guard("kl", limit=1.0, remedy="look")
    assert guard.reason({"kl": math.nan}) and not guard.reason({"kl": 1.0}) and not guard.reason({})
