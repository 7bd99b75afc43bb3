"""The loop of every training stage: steps, schedule, metrics, the best weights, guards, stopping and resumption.

A stage hands over a function that leaves the gradients of one step in the model; everything else happens here.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from alignment import devices, dry
from alignment.config import Job, NonFiniteStep, Optimization, ServerLost, Stopped
from alignment.manifest import verify_sealed
from alignment.metrics import Metrics
from alignment.models.checkpoints import evaluating
from alignment.models.sharding import Blanks, full_tensors, gather, gradient_norm, shard, whole
from alignment.state import STATE, Part, load_state, replace_tensors, save_state, trained

BEST = STATE.with_name("best.safetensors")
WATCHES = 5  # times a run is measured on held-out data where the plan does not say: more would cost too much


class Step(NamedTuple):
    """What a stage says of the gradients that it left in the model."""

    loss: float  # refused before the weights change where it is not finite
    tokens: int  # real tokens that passed through the model
    values: Mapping[str, float]  # the other figures of the step's line, with units in their names


class Watch(NamedTuple):
    """How a run is measured on held-out data; the weights of the best measurement are the ones that are kept."""

    measure: Callable[[], dict[str, float]]
    key: str  # the figure that decides
    higher_is_better: bool = True


class Guard(NamedTuple):
    """A figure that ends the run early once it is over its limit."""

    key: str
    limit: float
    remedy: str

    def reason(self, values: Mapping[str, float]) -> str:
        """Why the run must end, or nothing. Figures that a step does not have are not judged."""
        value = values.get(self.key, -math.inf)
        within = value <= self.limit  # no number at all is not within it
        return "" if within else f"{self.key} is {value:.4g}, over its limit {self.limit:g}: {self.remedy}"


class Best:
    """The best measurement so far. Its weights are in a file beside the state."""

    def __init__(self, watch: Watch | None) -> None:
        self.sign = 1.0 if watch is None or watch.higher_is_better else -1.0
        self.step, self.value = 0, None

    def beaten_by(self, value: float) -> bool:
        return self.value is None or self.sign * value > self.sign * self.value

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.value = state["step"], state["value"]


class Ending:
    """Why the run must end before its last step, or nothing; an attempt that goes on from there must know."""

    def __init__(self) -> None:
        self.reason = ""

    def state_dict(self) -> dict[str, Any]:
        return {"reason": self.reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reason = state.get("reason", "")  # an older state has none


def train(
    job: Job,
    plan: Optimization,
    model: torch.nn.Module,
    *,
    steps: int,
    take_step: Callable[[int], Step],
    parts: Mapping[str, Part] | None = None,
    watch: Watch | None = None,
    guards: Sequence[Guard] = (),
    cycle: int = 1,
    show: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Take the steps from the saved state on, and leave the model with the weights to keep.

    Args:
        take_step: given the 0-based step, adds the step's gradients to the model. It must be a pure function of the
            step, the weights, `parts` and torch's generator; then a resumed run ends in the same weights, bit for bit.
        parts: whatever else the steps change.
        watch: measured every `plan.watch_every` steps and at the end; the best weights are kept, not the last.
        guards: each ends the run early, with its reason and the best weights so far.
        cycle: so many steps belong together, as they learn from one rollout; a dry run takes whole cycles.
        show: told the steps taken, at the beginning and as often as `watch` would be asked; it changes nothing.

    On several devices the model is sharded meanwhile. All ranks take every step together, each with its share of it;
    rank 0 measures, writes, and returns with a plain model.

    Returns:
        Facts for the card: steps taken, and best_step and stopped_early where they apply. No clock is among them.

    Raises:
        NonFiniteStep, JobError; Stopped after SIGTERM, with the state saved; Helped on all ranks but the first.
    """
    blanks = shard(model)
    optimizer, stop, best, ending = make_optimizer(model, plan), StopSignal(), Best(watch), Ending()
    parts = {**(parts or {}), "best": best, "ending": ending}
    progress = load_state(job, model, optimizer, parts)
    metrics = Metrics(job.output, steps, progress.seconds)
    watch_every = plan.watch_every or max(1, steps // WATCHES)
    done, last, timing = progress.step, last_step(job, steps, cycle), dry.Timing()
    model.train()  # for activation checkpointing and an adapter's dropout; a loaded model has none
    if show and not done:
        with evaluating(model), whole(model):
            devices.first(lambda: show(0))
    while done < last and not ending.reason:
        started = time.monotonic()
        try:
            step = take_step(done)
        except ServerLost:  # while it sampled: nothing of this step has changed anything yet
            save_state(job, model, optimizer, step=done, seconds=metrics.seconds, parts=parts)
            raise
        rate = plan.learning_rate * schedule(done, steps, warmup_share=plan.warmup_share, shape=plan.schedule)
        norm = clipped_step(
            model, optimizer, loss=step.loss, learning_rate=rate, max_grad_norm=plan.max_grad_norm
        )
        done += 1
        speed = step.tokens / max(1e-9, time.monotonic() - started)
        values = {**step.values, "gradient_norm": norm, "learning_rate": rate, "tokens_per_second": speed}
        ending.reason = devices.first(lambda: why_to_end(guards, values))  # noqa: B023, asked at once
        timing.steps.append(time.monotonic() - started)
        if (watch or show) and (done % watch_every == 0 or done == last or ending.reason):
            with evaluating(model), dry.timed(timing.watches), whole(model):
                values |= devices.first(lambda: look(done, watch, show))  # noqa: B023, asked at once
            if watch:
                keep_best(job, model, best, done, values[watch.key])
        metrics.write(done, **values)
        asked = devices.any_rank(stop.requested)
        if asked or done % plan.checkpoint_every == 0 or done == last:
            with dry.timed(timing.saves):
                save_state(job, model, optimizer, step=done, seconds=metrics.seconds, parts=parts)
        if asked and done < steps and not ending.reason:
            raise Stopped(f"stopped after step {done} of {steps}")
    if job.dry_run and devices.leads():
        note_dry_run(job, timing, dry.Whole(steps, steps // watch_every, -(-steps // plan.checkpoint_every)), cycle)
    return finish(job, model, blanks, best, done, ending.reason)


def why_to_end(guards: Sequence[Guard], values: Mapping[str, float]) -> str:
    """The first guard's reason, or nothing."""
    return next(filter(None, (guard.reason(values) for guard in guards)), "")


def last_step(job: Job, steps: int, cycle: int) -> int:
    """The last step to take: the run's, or a few of a dry run, in whole cycles."""
    return min(steps, cycle * -(-dry.FEWEST_STEPS // cycle)) if job.dry_run else steps


def note_dry_run(job: Job, timing: dry.Timing, whole: dry.Whole, cycle: int) -> None:
    left_out = dry.left_out_seconds(timing, whole, warm=cycle == 1)
    taken = len(timing.steps)
    dry.note(job.output, steps=whole.steps, taken=taken, step_seconds=dry.mean(timing.steps), left_out=left_out)


def look(done: int, watch: Watch | None, show: Callable[[int], None] | None) -> dict[str, float]:
    """Show what the policy writes, and measure it."""
    if show:
        show(done)
    return watch.measure() if watch else {}


def keep_best(job: Job, model: torch.nn.Module, best: Best, done: int, value: float) -> None:
    """Remember the weights where this measurement beats the earlier ones."""
    if best.beaten_by(value):
        best.step, best.value = done, value
        tensors = full_tensors(model, trained=True)
        if devices.leads():
            replace_tensors(Path(job.output) / BEST, tensors, {})


@torch.no_grad()
def finish(
    job: Job, model: torch.nn.Module, blanks: Blanks, best: Best, done: int, reason: str
) -> dict[str, Any]:
    """Bring the best weights back, and say what happened. Raises Helped on all ranks but the first."""
    gather(blanks)
    model.eval()
    facts: dict[str, Any] = {"steps": done}
    if best.step:
        facts |= {"best_step": best.step}
        verify_sealed(Path(job.output) / BEST)
        kept = load_file(Path(job.output) / BEST)
        for name, parameter in trained(model):
            parameter.copy_(kept[name])
    return facts | ({"stopped_early": reason} if reason else {})


def make_optimizer(model: torch.nn.Module, optimization: Optimization) -> torch.optim.AdamW:
    """AdamW; matrices decay, norms and biases do not."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": optimization.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    how = {"lr": optimization.learning_rate, "betas": (0.9, 0.95), "eps": optimization.adam_epsilon}
    return torch.optim.AdamW(groups, **how, fused=True)


def schedule(step: int, steps: int, *, warmup_share: float, shape: str = "cosine") -> float:
    """Share of the peak learning rate at 0-based `step`: linear warm-up, then constant, or down to a tenth."""
    warmup = math.ceil(warmup_share * steps)
    if step < warmup:
        return (step + 1) / warmup
    if shape == "constant":
        return 1.0
    done = (step - warmup) / max(1, steps - warmup)
    remaining = 1 - done if shape == "linear" else (1 + math.cos(math.pi * done)) / 2
    return 0.1 + 0.9 * remaining


def clipped_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, *, loss: float, learning_rate: float, max_grad_norm: float
) -> float:
    """Apply the accumulated gradients and return their norm before clipping. Raises NonFiniteStep.

    The only place where weights change: a loss or norm that is not finite is refused before it.
    """
    norm = gradient_norm(model, max_grad_norm)
    if not (math.isfinite(loss) and math.isfinite(norm)):
        optimizer.zero_grad(set_to_none=True)
        raise NonFiniteStep(f"the loss is {loss}, the gradient norm {norm}; lower the learning rate or check the rows")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


class StopSignal:
    """Remembers a SIGTERM, so that a step is finished before the run stops."""

    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._remember)

    def _remember(self, *_: Any) -> None:
        self.requested = True
