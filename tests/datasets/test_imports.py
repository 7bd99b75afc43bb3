"""Every row of a file is stored once, or the file is refused with the row and the reason."""

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from labelapp.datasets.actions import ImportRefused, NoProtocol, import_preferences
from labelapp.datasets.reading import MAX_LINE, BadFile
from labelapp.labeling.queue import claim_slot
from labelapp.models import Comparison, Completion, Judgment, Project, Prompt, ProtocolVersion, Slot
from tests import servers
from tests.datasets.rows import as_file, pair, take
from tests.factories import add_member, make_project, make_user

DATA = Path(__file__).parent.parent / "data"


@pytest.fixture
def project(db):
    return make_project("trains", overlap=2)


def test_a_pair_becomes_a_judgment_of_an_external_annotator(project):
    report = take(project, pair(strength=2), source="survey.jsonl")
    judgment = Judgment.objects.get()
    winner = judgment.comparison.ordered_completions()[judgment.ranking[0][0]]
    assert (report.prompts, report.completions, report.comparisons, report.judgments) == (1, 2, 1, 1)
    assert winner.text == "Trains are comfortable." and abs(judgment.strength) == 2
    assert judgment.external_annotator == "import:survey.jsonl" and judgment.labeler is None
    assert judgment.comparison.origin == "import" and not judgment.comparison.slots.exists()


def test_an_import_that_knows_only_the_winner_has_no_strength(project):
    take(project, pair())
    assert Judgment.objects.get().strength is None


def test_the_same_file_again_changes_nothing(project):
    rows = [pair(f"Argue for number {n}.", f"It has {n} reasons.", "It is not zero.") for n in range(30)]
    take(project, *rows)
    again = take(project, *rows)
    assert again.known == 30 and again.judgments == again.prompts == again.completions == again.comparisons == 0
    assert Judgment.objects.count() == 30 and Prompt.objects.count() == 30


def test_several_annotators_judge_the_same_comparison(project):
    take(project, pair(annotator="w1"), pair(annotator="w2"), pair(annotator="w2"))
    assert Comparison.objects.count() == 1 and Judgment.objects.count() == 2


def test_an_annotator_cannot_say_the_opposite(project):
    first, second = pair(), pair(chosen="Trains are quick.", rejected="Trains are comfortable.")
    with pytest.raises(ImportRefused) as refusal:
        take(project, first, second)
    assert refusal.value.report.reasons == [(2, "'import:test.jsonl' has already judged this pair differently")]


@pytest.mark.parametrize("place", [1, 600, 1200])
def test_one_bad_row_of_many_stores_nothing_and_is_named(project, place):
    rows = [pair(f"Argue for number {n}.") for n in range(1, 1200)]
    rows.insert(place - 1, b'{"prompt": "p", "chosen": NaN}')
    with pytest.raises(ImportRefused, match="1 of 1200 rows are bad; nothing was stored") as refusal:
        take(project, *rows)
    assert refusal.value.report.reasons == [(place, "NaN is not JSON")]
    assert not Prompt.objects.exists()


def test_bad_rows_can_be_left_out(project):
    report = take(project, pair("one"), "{", pair("two"), skip_bad=True)
    assert (report.rows, report.judgments, report.bad_rows) == (3, 2, 1)
    assert report.reasons[0][0] == 2


def test_blank_lines_count_as_rows_for_the_eye_only(project):
    with pytest.raises(ImportRefused) as refusal:
        take(project, pair(), "", "   ", "{")
    assert refusal.value.report.reasons[0][0] == 4 and refusal.value.report.rows == 2


def test_an_overlong_row_is_refused_and_the_next_one_read(project):
    report = take(project, '{"prompt": "' + "x" * 3 * MAX_LINE + '"}', pair(), skip_bad=True)
    assert report.reasons == [(1, "longer than 1024 KiB")] and report.judgments == 1


def test_gzip_is_read_and_damaged_gzip_is_refused(project):
    packed = gzip.compress(as_file(*(pair(f"p{n}") for n in range(300))).getvalue())
    assert import_preferences(project=project, stream=io.BytesIO(packed), source="a").judgments == 300
    with pytest.raises(BadFile, match="damaged after row"):
        import_preferences(project=project, stream=io.BytesIO(packed[:-50]), source="b")


def test_what_unpacks_to_more_than_the_limit_is_refused(project):
    bomb = io.BytesIO(gzip.compress(b" " * 50_000_000))
    with pytest.raises(BadFile, match="more than 1 MB"):
        import_preferences(project=project, stream=bomb, source="bomb", max_bytes=1_000_000)


def test_a_group_column_decides_the_group_and_cannot_change(project):
    take(project, pair(group="debate"))
    assert Prompt.objects.get().group == "debate"
    with pytest.raises(ImportRefused, match="1 of 1 rows") as refusal:
        take(project, pair(group="another", annotator="w"))
    assert "already in group 'debate'" in refusal.value.report.reasons[0][1]


def test_continuations_of_a_dialogue_share_a_group(project):
    turns = [{"role": "user", "content": "Hello "}, {"role": "assistant", "content": "Hi."}]
    take(project, pair("hello"), pair([*turns, {"role": "user", "content": "And now?"}]))
    assert Prompt.objects.values("group").distinct().count() == 1


@pytest.mark.parametrize(
    ("definition", "fits", "refused"),
    [
        ({"form": "rating", "safety": True}, ["An answer."], []),
        ({"form": "demonstration"}, [], ["An answer."]),
        ({}, ["One.", "Another."], ["An answer."]),
    ],
)
def test_a_row_has_as_many_completions_as_the_protocol_asks_about(project, definition, fits, refused):
    ProtocolVersion.objects.create(project=project, number=2, definition=definition)
    take(project, {"prompt": "Argue for trains.", "completions": fits})
    assert {tuple(sorted(slot.display_order)) for slot in Slot.objects.all()} == {tuple(range(len(fits)))}
    with pytest.raises(ImportRefused) as refusal:
        take(project, {"prompt": "Argue for trains.", "completions": refused})
    assert f"{len(refused)} completions" in refusal.value.report.reasons[0][1]


def test_open_rows_get_places_for_people_here(project):
    three = {"prompt": "q", "completions": ["a", "b", "c"], "overlap": 3}
    report = take(project, {"prompt": "p", "completions": ["a", "b"]}, three)
    assert report.open_comparisons == 2 and report.judgments == 0
    assert sorted(Comparison.objects.values_list("overlap", flat=True)) == [2, 3]
    assert Slot.objects.count() == 5
    labeler = make_user()
    add_member(project, labeler, "labeler")
    assert claim_slot(project=project, labeler=labeler).state == "leased"
    assert take(project, {"prompt": "p", "completions": ["b", "a"]}).known == 1


def test_fresh_prompts_wait_for_the_policy(project):
    fresh = {"prompt": "Argue for boats.", "fresh": True}
    report = take(project, fresh, pair())
    assert (report.fresh_prompts, report.prompts, report.comparisons, report.known) == (1, 2, 1, 0)
    assert Prompt.objects.get(fresh=True).last_turn == "Argue for boats."
    again = take(project, fresh, {"prompt": "Argue for trains.", "fresh": True})
    assert (again.fresh_prompts, again.known) == (0, 2)
    assert Prompt.objects.filter(fresh=True).count() == 1  # a prompt that came with completions stays what it is
    with pytest.raises(ImportRefused, match="1 of 1"):
        take(project, pair() | {"fresh": True})


def test_authors_are_kept(project):
    take(project, pair(chosen_model="gpt", rejected_model="human"))
    assert set(Completion.objects.values_list("text", "author")) == {
        ("Trains are comfortable.", "gpt"),
        ("Trains are quick.", "human"),
    }


def test_text_that_turns_the_direction_of_writing_is_stored_exactly(project):
    text = "\u202eevil\u202c and \u0430 homoglyph"
    take(project, pair(chosen=text))
    assert Completion.objects.filter(text=text).exists()


def test_a_project_without_a_protocol_is_refused(db):
    with pytest.raises(NoProtocol, match="no protocol"):
        take(Project.objects.create(slug="bare", name="Bare"), pair())


def test_real_dialogues_in_hh_format(project):
    with open(DATA / "hh-gentle.jsonl", "rb") as stream:
        report = import_preferences(project=project, stream=stream, source="hh")
    assert report.judgments == report.rows == 23 and not report.bad_rows
    assert any(len(prompt.messages) > 1 for prompt in Prompt.objects.all())
    assert not Completion.objects.filter(text__contains="\n\nHuman:").exists()


def test_real_pairs_about_arguments(project):
    with open(DATA / "ukpconvarg1-sample.jsonl", "rb") as stream:
        report = import_preferences(project=project, stream=stream, source="ukp")
    assert report.judgments == report.rows == 60


def test_the_command_reports_rows_in_json_and_fails(project, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(as_file(pair(), "[]").getvalue())
    with pytest.raises(CommandError, match="row 2: not a JSON object"):
        call_command("import", "trains", str(file))
    with pytest.raises(CommandError):
        call_command("import", "trains", str(file), "--json")
    assert json.loads(capsys.readouterr().out)["reasons"] == [{"row": 2, "reason": "not a JSON object"}]
    call_command("import", "trains", str(file), "--json", "--skip-bad", "--source", "s")
    report = json.loads(capsys.readouterr().out)
    assert report["judgments"] == 1 and report["source"] == "s"


def test_the_command_names_a_project_or_file_that_is_not_there(project, tmp_path):
    with pytest.raises(CommandError, match="no project 'boats'"):
        call_command("import", "boats", "x")
    with pytest.raises(CommandError, match="No such file"):
        call_command("import", "trains", str(tmp_path / "x"))


@pytest.mark.django_db(transaction=True)
def test_a_killed_import_leaves_nothing_and_can_be_repeated(tmp_path):
    project = make_project("killed")
    rows = [pair(f"Argue for number {n}.", rejected="x" * 250) for n in range(1500)]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [sys.executable, "manage.py", "import", "killed", str(pipe)],
        env=os.environ | {"DATABASE_URL": servers.test_database_url()},
        cwd=Path(__file__).parent.parent.parent,
    )
    with open(pipe, "wb") as stream:  # the pipe holds 64 KiB: a whole batch is stored when the last row is written
        stream.write(as_file(*rows).getvalue())
        stream.flush()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not Prompt.objects.filter(project=project).exists()
    assert take(project, *rows).judgments == 1500
