"""The pure parts: curves, failures, metrics lines."""

import math
import subprocess
import sys

import pytest

from labelapp.rounds import curves, progress
from labelapp.rounds.die_with_parent import __file__ as LAUNCHER
from labelapp.rounds.failures import REMEDIES, explain
from labelapp.rounds.overview import duration

LOSS = curves.PLOTS["reward"][0]


def test_a_curve_reaches_as_far_right_as_the_stage_has_come():
    assert curves.path([(0, 0.0), (50, 1.0)], 100, 0.0, 1.0) == "M0.0 104.0L150.0 6.0"


def test_a_step_that_comes_again_replaces_what_was_behind_it():
    curve = curves.Curve(LOSS)
    for step, value in [(1, 0.7), (2, 0.6), (3, 0.5), (2, 0.4)]:
        curve.add(step, value)
    assert curve.points == [(1, 0.7), (2, 0.4)]


def test_a_long_curve_keeps_its_mean_and_its_ends():
    curve = curves.Curve(LOSS)
    for step in range(1, 10_001):
        curve.add(step, step / 10_000)
    assert len(curve.points) <= 2 * curves.KEPT
    assert curve.points[-1][0] > 9_900
    values = [value for _, value in curve.points]
    assert values == sorted(values)


def test_a_value_that_is_not_finite_is_no_point():
    curve = curves.Curve(LOSS)
    for value in (math.nan, None, math.inf, "0.5"):
        curve.add(1, value)
    assert curve.points == [] and curve.draw(10).smooth == ""


def test_the_moving_average_by_hand():
    assert curves.smoothed([(1, 1.0), (2, 0.0)]) == [(1, 1.0), (2, 0.7)]


def test_lines_of_one_step_are_merged_and_broken_ones_left_out():
    lines = ['{"step": 1, "a": 1}', '{"step": 1, "b": NaN}', "{", "[]", '{"step": -1}', '{"a": 2}']
    assert progress.parse(lines) == {1: {"step": 1, "a": 1, "b": None}}


@pytest.mark.parametrize(
    ("returncode", "result", "log", "code"),
    [
        (64, {"status": "failed", "code": "bad_input", "reason": "line 4 has no chosen answer"}, "", "bad_input"),
        (70, {"status": "failed", "code": "non_finite", "reason": "the loss is nan"}, "", "non_finite"),
        (75, {"status": "stopped", "code": "server_lost", "reason": "it is lost"}, "", "server_lost"),
        (-9, None, "step 3", "out_of_memory"),
        (1, None, "OSError: [Errno 28] No space left on device", "disk_full"),
        (1, {"status": "failed", "code": "disk_full", "reason": "the disk is full"}, "", "disk_full"),
        (1, None, "RuntimeError: can't allocate memory", "out_of_memory"),
        (-11, None, "", "crashed"),
        (0, None, "", "crashed"),
    ],
)
def test_each_end_of_a_trainer_has_its_code_and_a_remedy(returncode, result, log, code):
    failure = explain("reward", returncode=returncode, result=result, log=log)
    assert failure.code == code
    assert str(failure).startswith("Stage reward failed: ") and str(failure).endswith(REMEDIES[code])


@pytest.mark.parametrize(
    ("seconds", "words"), [(5, "5 s"), (89, "89 s"), (360, "6 min"), (4800, "80 min"), (6000, "1 h 40 min")]
)
def test_a_duration_in_words(seconds, words):
    assert duration(seconds) == words


def test_the_launcher_leaves_when_its_parent_is_gone():
    stranger = "1"
    command = [sys.executable, "-I", "-S", LAUNCHER, stranger, "/bin/echo", "started"]
    ended = subprocess.run(command, capture_output=True)
    assert (ended.returncode, ended.stdout) == (1, b"")
