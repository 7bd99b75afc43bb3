"""The card says what was read by digest, and nothing of where or when."""

from alignment.config import Job, SFTConfig, build
from alignment.manifest import file_sha256
from alignment.models.card import card_of, told


def test_the_same_rows_in_another_folder_make_the_same_card_and_other_rows_another(tmp_path):
    def card(folder, text):
        rows = tmp_path / folder / "rows.jsonl"
        rows.parent.mkdir()
        rows.write_text(text)
        job = Job("sft", {}, {"rows": str(rows)}, str(tmp_path))
        return card_of(job, build(SFTConfig, job.config), metrics=[])

    first = card("a", "one")
    assert first == card("b", "one") != card("c", "two")
    assert first["config"]["rows"] == "rows.jsonl" and first["files"] == {
        "rows.jsonl": file_sha256(tmp_path / "a" / "rows.jsonl")
    }
    assert str(tmp_path) not in str(first)


def test_a_count_may_share_the_name_of_a_file_field():
    assert told({"prompts": "", "sampling": {"prompts": 8}})["config"]["sampling"] == {"prompts": 8}


def test_the_card_does_not_say_where_a_server_stood():
    place = {"url": "http://10.0.0.7:8000", "directory": "/srv/weights", "key_variable": "KEY", "importance_cap": 2.0}
    shown = told({"sampling": {"prompts": 8, "server": place}})
    assert shown["config"]["sampling"] == {"prompts": 8, "server": {"importance_cap": 2.0}}
