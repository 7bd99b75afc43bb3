"""The leaderboard as people and programs see it."""

import csv
import io

import numpy as np
import pytest
from django.test import Client
from django.urls import reverse

from labelapp.accounts.keys import create_key
from labelapp.labeling.queue import create_comparisons
from labelapp.leaderboard.battles import battles_of, categories_of, choices_of
from labelapp.leaderboard.standings import FEWEST_PROMPTS, board_of, standings
from labelapp.leaderboard.style import Style, differences, style_of
from labelapp.leaderboard.views import as_cell, drawing_of
from labelapp.models import Slot, User
from tests.datasets.rows import take
from tests.factories import make_completion, make_project, make_prompt, make_user, make_version
from tests.labeling.conftest import claim_and_answer

ANSWERS = {"a": [[0], [1]], "b": [[1], [0]], "e": [[0, 1]]}


@pytest.fixture
def project(db):
    return make_project(
        "board", overlap=1, labeler=make_user("lab"), researcher=make_user("res"), reviewer=make_user("rev")
    )


def meet(project, first: str, second: str, said: str, *, topic: str = "", start: int = 0) -> None:
    """The two on a prompt a letter: a (first better), b, e (tie)."""
    rows = [
        {
            "prompt": f"{first} {second} {topic} {start + n}?", "completions": [f"One {n}.", f"Another {n}."],
            "authors": [first, second], "ranking": ANSWERS[letter], "annotator": "somebody",
            **({"metadata": {"topic": topic}} if topic else {}),
        }
        for n, letter in enumerate(said)
    ]  # fmt: skip
    take(project, *rows)


def test_votes_count_for_the_authors_whatever_the_position(project):
    meet(project, "strong", "weak", "aaaaaaaabe")
    [block] = board_of(project, style=False)["blocks"]
    assert [each["model"] for each in block] == ["strong", "weak"]
    assert [block[0][name] for name in ("wins", "ties", "losses", "prompts")] == [8, 1, 1, 10]
    assert [block[1][name] for name in ("wins", "ties", "losses")] == [1, 1, 8]
    assert block[0]["rating"] - 1000 == pytest.approx(1000 - block[1]["rating"], abs=0.2)
    assert block[0]["low"] < block[0]["rating"] < block[0]["high"]


def test_a_version_judged_here_stands_beside_models_from_elsewhere(project):
    version, prompt = make_version(project, name="ours"), make_prompt(project)
    answers = [make_completion(prompt, "Mine.", version=version), make_completion(prompt, "Theirs.", author="gpt")]
    create_comparisons(project=project, items=[(prompt, answers)], origin="random")
    claim_and_answer(project, User.objects.get(username="lab"), strength=2)
    [block] = board_of(project, style=False)["blocks"]
    assert {each["model"] for each in block} == {"ours", "gpt"} and {each["bound"] for each in block} == {"won", "lost"}


def test_an_answer_that_checks_a_labeler_is_no_vote(project):
    prompt = make_prompt(project)
    answers = [make_completion(prompt, "Mine.", author="one"), make_completion(prompt, "Theirs.", author="two")]
    create_comparisons(project=project, items=[(prompt, answers)], origin="random")
    labeler = User.objects.get(username="lab")
    Slot.objects.update(purpose="quiz", reserved_for=labeler)
    claim_and_answer(project, labeler, strength=2)
    assert battles_of(project) == []


def test_answers_of_one_author_are_no_battle(project):
    meet(project, "same", "same", "ab")
    assert board_of(project, style=False)["blocks"] == []


def test_groups_that_nothing_joins_are_not_compared(project):
    meet(project, "a", "b", "aab")
    meet(project, "c", "d", "ccdd".replace("c", "a").replace("d", "b"))
    blocks = board_of(project, style=False)["blocks"]
    assert [{each["model"] for each in block} for block in blocks] == [{"a", "b"}, {"c", "d"}]
    meet(project, "b", "c", "ab")
    assert len(board_of(project, style=False)["blocks"]) == 1


def test_few_prompts_have_no_interval_and_no_rank(project):
    meet(project, "a", "b", "ab" * 4)
    [block] = board_of(project, style=False)["blocks"]
    assert block[0]["prompts"] < FEWEST_PROMPTS
    assert {(each["low"], each["high"], each["ranks"]) for each in block} == {(None, None, None)}


def test_ranks_are_apart_only_where_the_intervals_are(project):
    meet(project, "best", "middle", "a" * 45 + "b" * 3)
    meet(project, "middle", "other", "ab" * 24)
    ranks = {each["model"]: each["ranks"] for each in board_of(project, style=False)["blocks"][0]}
    assert ranks["best"] == [1, 1] and ranks["middle"] == [2, 3] and ranks["other"] == [2, 3]


def test_a_category_shows_its_own_votes(project):
    meet(project, "a", "b", "aaa", topic="cooking")
    meet(project, "a", "b", "bbbb", topic="sport")
    board = board_of(project, style=False, key="topic", value="cooking")
    assert board["votes"] == 3 and board["choices"] == {"topic": ["cooking", "sport"]}
    assert [each["model"] for each in board["blocks"][0]] == ["a", "b"]
    assert board_of(project, style=False, key="topic", value="none")["votes"] == 0


def test_only_short_single_values_are_categories():
    said = {"topic": "x", "n": 3, "long": "y" * 81, "nested": {"a": 1}, "share": 0.5}
    assert categories_of(said) == {"topic": "x", "n": "3"} and categories_of(None) == {}
    assert choices_of([]) == {}


def test_style_is_counted_outside_of_code():
    text = "# Title\n\n- one\n- **two**\n3. three\n\n```\n# no header\n- no item **no bold**\n```\nand __bold__ too"
    assert style_of(text) == Style(length=21, headers=1, lists=3, bold=2)


def test_style_differences_are_shares_over_their_root_mean_square():
    found = differences([Style(30, 1, 0, 0), Style(10, 0, 0, 0)], [Style(10, 0, 0, 0), Style(10, 1, 0, 0)])
    # length: 20/40 = 0.5 and 0, root mean square 0.5 / sqrt(2); headers: 1 and -1
    assert found == pytest.approx(np.array([[np.sqrt(2), 1, 0, 0], [0, -1, 0, 0]]))


def test_style_control_reports_what_length_is_worth(project):
    rows = [
        {
            "prompt": f"Number {n}?", "completions": ["word " * (4 + n), "word"],
            "authors": ["x", "y"] if n % 2 else ["y", "x"], "annotator": "z",
            "ranking": [[0], [1]] if n % 8 else [[1], [0]],
        }
        for n in range(48)
    ]  # fmt: skip
    take(project, *rows)
    board = board_of(project, style=True)
    length = next(effect for effect in board["effects"] if effect["style"] == "length")
    assert length["low"] > 0 and board_of(project, style=False)["effects"] == []


def test_nothing_to_compare_is_an_empty_board():
    assert standings([], style=True)["blocks"] == []


def test_the_drawing_keeps_order_and_ticks_inside():
    rows = [{"rating": r, "low": low, "high": h} for r, low, h in [(1100.0, 1050.0, 1190.0), (900.0, None, None)]]
    drawing = drawing_of(rows)
    assert drawing.marks[0].low < drawing.marks[0].x < drawing.marks[0].high <= drawing.width
    assert drawing.marks[1].low is None and all(170 <= x <= 640 for x, _ in drawing.ticks)


# Pages and API


def client(username: str) -> Client:
    found = Client()
    found.force_login(User.objects.get(username=username))
    return found


def test_the_page_shows_ratings_and_leads_to_the_files(project):
    meet(project, "strong", "weak", "aaaaaaaabe", topic="cooking")
    page = client("res").get(reverse("leaderboard", args=["board"]) + "?style=1").content.decode()
    assert "strong" in page and "What style is worth" in page and "leaderboard.csv?style=1" in page


def test_strangers_labelers_and_reviewers_see_no_leaderboard(project):
    make_user("stranger")
    addresses = ["leaderboard", "api-leaderboard", "api-leaderboard-file"]
    for name, status in {"stranger": 404, "lab": 403, "rev": 403, "res": 200}.items():
        for address in addresses:
            assert client(name).get(reverse(address, args=["board"])).status_code == status, (name, address)


def test_a_key_reads_json_and_csv_of_its_own_project(project):
    meet(project, "=strong", "weak", "aaaaaaaabe")
    key = Client(headers={"Authorization": f"Bearer {create_key(project=project, name='k')[1]}"})
    board = key.get(reverse("api-leaderboard", args=["board"])).json()
    file = key.get(reverse("api-leaderboard-file", args=["board"]))
    lines = list(csv.DictReader(io.StringIO(file.content.decode())))
    assert [line["model"] for line in lines] == ["'=strong", "weak"]  # no formula in a spreadsheet
    assert float(lines[0]["rating"]) == board["blocks"][0][0]["rating"] and lines[0]["block"] == "1"
    assert key.get(reverse("api-leaderboard", args=[make_project("other").slug])).status_code == 404


def test_a_negative_number_stays_a_number():
    assert as_cell(-3.5) == "-3.5" and as_cell(None) == "" and as_cell("-x") == "'-x"


def test_metadata_of_an_imported_prompt_is_kept_as_far_as_it_is_short(project):
    row = {"prompt": "New?", "fresh": True, "metadata": {"topic": "x", "deep": {"a": 1}, "long": "y" * 300}}
    take(project, row)
    assert project.prompts.get().metadata == {"topic": "x"}
