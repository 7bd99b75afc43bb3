"""What a policy writes while it trains, on the round page."""

import json

import pytest

from labelapp.models import Round, Stage
from labelapp.rounds.shown import shown_samples
from tests.factories import make_project, make_user
from tests.rounds.material import queue_reward_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path) -> Stage:
    """A stage that has written two measurements and a line that a kill cut short."""
    round = queue_reward_round(make_project(researcher=make_user()))
    stage = round.stages.first()
    stage.output = str(tmp_path)
    stage.save()
    lines = [
        {"step": step, "samples": [{"prompt": "Why?", "completion": text, "finished": step > 0}]}
        for step, text in ((0, "<b>Hm</b>"), (5, "Because."), (10, "Because " + "so " * 1000))
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 15, "sam')
    return stage


def test_a_prompt_shows_its_first_and_its_newest_answer_and_those_between(stage):
    (shown,) = shown_samples(stage)
    assert (shown.first.step, shown.newest.step, [each.step for each in shown.between]) == (0, 10, [5])
    assert len(shown.newest.text) == 2001 and not shown.first.finished


def test_a_line_that_is_not_ours_is_left_out(stage, tmp_path):
    (tmp_path / "samples.jsonl").write_text('[]\n{"step": "x"}\n{"step": 1, "samples": [{"prompt": 1}]}\nnull\n')
    assert shown_samples(stage) == []


def test_the_page_shows_it_escaped(stage, client):
    client.force_login(stage.round.project.memberships.get().user)
    Round.objects.filter(pk=stage.round_id).update(state="done", finished_at="2026-01-01T00:00Z")
    page = client.get(f"/p/{stage.round.project.slug}/rounds/{stage.round.number}/").content.decode()
    assert "&lt;b&gt;Hm&lt;/b&gt;" in page and "<b>Hm" not in page and "step 10" in page and "cut off" in page
    assert "samples.jsonl" in page
