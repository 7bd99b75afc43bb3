"""The pages of the data: who may see them, what they refuse, and that nothing imported becomes markup."""

import gzip
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from alignment.manifest import file_sha256, split_of
from labelapp.datasets import views
from labelapp.datasets.actions import freeze_snapshot
from labelapp.datasets.filters import comparisons_in
from labelapp.models import Judgment, Prompt
from labelapp.templatetags.datasets import everything_else
from tests.datasets.rows import as_file, pair, vote
from tests.factories import add_member, make_comparison, make_project, make_user, make_version
from tests.labeling.conftest import claim_and_answer

TRAIN, TEST = "debate 3", next(f"debate {n}" for n in range(99) if split_of(f"debate {n}", 0.2) == "test")
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture
def project(db, settings, tmp_path):
    assert split_of(TRAIN, 0.2) == "train"
    settings.ARTIFACT_DIR = tmp_path
    project = make_project("debates", labeler=make_user("lab"), researcher=make_user("res"), admin=make_user("adm"))
    vote(project, "aab", group=TRAIN)
    vote(project, "bbe", group=TEST)
    return project


@pytest.fixture
def snapshot(project):
    return freeze_snapshot(project=project, by=None)


def signed_in(username: str) -> Client:
    from labelapp.models import User

    client = Client()
    client.force_login(User.objects.get(username=username))
    return client


def pages(snapshot) -> list[str]:
    slug = snapshot.project.slug
    comparison = snapshot.project.comparisons.first().pk
    return [
        reverse("project", args=[slug]),
        reverse("data", args=[slug]),
        reverse("prompts", args=[slug]),
        reverse("judgments", args=[slug]),
        reverse("comparisons", args=[slug]),
        reverse("comparison", args=[slug, comparison]),
        reverse("snapshot", args=[slug, snapshot.digest]),
        reverse("snapshot_file", args=[slug, snapshot.digest, "pairs-train.jsonl"]),
        reverse("api-snapshots", args=[slug]),
        reverse("api-snapshot", args=[slug, snapshot.digest]),
        reverse("api-snapshot-file", args=[slug, snapshot.digest, "pairs-train.jsonl"]),
    ]


def writes(project) -> list[str]:
    return [reverse(name, args=[project.slug]) for name in ("data_import", "data_freeze", "api-snapshots")]


def test_a_stranger_learns_nothing(project, snapshot):
    make_user("stranger")
    stranger = signed_in("stranger")
    assert {stranger.get(page).status_code for page in pages(snapshot)} == {404}
    assert {stranger.post(page).status_code for page in writes(project)} == {404}
    missing = [page.replace("debates", "no-such-project") for page in pages(snapshot)]
    assert {stranger.get(page).status_code for page in missing} == {404}


def test_nobody_signed_out_gets_in(project, snapshot):
    for page in [*pages(snapshot), *writes(project)]:
        response = Client().get(page) if page in pages(snapshot) else Client().post(page)
        assert response.status_code == 401 if page.startswith("/api/") else response.url.startswith("/accounts/login/")


def test_a_labeler_and_a_reviewer_are_refused(project, snapshot):
    add_member(project, make_user("rev"), "reviewer")
    for person in (signed_in("lab"), signed_in("rev")):
        assert {person.get(page).status_code for page in pages(snapshot)} == {403}
        assert {person.post(page).status_code for page in writes(project)} == {403}


def test_a_researcher_sees_everything_and_freezes_but_does_not_import(project, snapshot):
    researcher = signed_in("res")
    assert {researcher.get(page).status_code for page in pages(snapshot)} == {200}
    assert researcher.post(reverse("data_freeze", args=[project.slug])).status_code == 302
    assert researcher.post(reverse("data_import", args=[project.slug])).status_code == 403
    assert b"Import preferences" not in researcher.get(reverse("data", args=[project.slug])).content


def upload(project, *rows, name: str = "rows.jsonl", client: Client | None = None, content: bytes = b"", **more):
    file = SimpleUploadedFile(name, content or as_file(*rows).getvalue())
    address = reverse("data_import", args=[project.slug])
    return (client or signed_in("adm")).post(address, {"file": file, **more}, follow=True)


def test_an_admin_imports_a_file(project):
    response = upload(project, pair("p"), pair("q"), source="survey")
    assert "survey: 2 rows, 2 new judgments, 2 new comparisons, 0 already known." in response.content.decode()
    assert Judgment.objects.filter(external_annotator="import:survey").count() == 2


def test_a_bad_row_is_named_on_the_page_and_nothing_is_stored(project):
    response = upload(project, pair("p"), '{"prompt": NaN}')
    assert response.status_code == 422
    assert "1 of 2 rows are bad; nothing was stored" in response.content.decode()
    assert "row 2: NaN is not JSON" in response.content.decode()
    assert not Prompt.objects.filter(messages__0__content="p").exists()


def test_good_rows_are_stored_where_the_box_is_ticked(project):
    response = upload(project, pair("p"), "[]", skip_bad="on")
    assert "row 2: not a JSON object" in response.content.decode()
    assert Prompt.objects.filter(messages__0__content="p").exists()


def test_too_large_an_upload_is_refused_with_the_remedy(project, monkeypatch):
    monkeypatch.setattr(views, "UPLOAD_LIMIT", 1000)
    response = upload(project, content=b" " * 100_000)
    assert response.status_code == 413 and b"manage.py import debates FILE" in response.content


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(project, monkeypatch):
    monkeypatch.setattr(views, "UNPACKED_LIMIT", 1_000_000)
    response = upload(project, content=gzip.compress(b" " * 30_000_000))
    assert response.status_code == 422 and b"more than 1 MB of text" in response.content


def test_an_import_needs_a_csrf_token(project):
    from labelapp.models import User

    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="adm"))
    assert upload(project, pair(), client=client).status_code == 403
    assert client.post(reverse("data_freeze", args=[project.slug])).status_code == 403


def test_no_file_is_answered_with_the_form(project):
    response = signed_in("adm").post(reverse("data_import", args=[project.slug]))
    assert response.status_code == 422 and b"This field is required" in response.content


def test_imported_markup_stays_text(project):
    evil = pair(EVIL, chosen=EVIL + "1", rejected=EVIL + "2", group=TRAIN + "1", annotator=EVIL, rationale=EVIL)
    upload(project, evil, name=EVIL.replace("/", "") + ".jsonl", source=EVIL)
    refused = upload(project, {"prompt": "p", "chosen": "a", "rejected": "b", "margin": EVIL})
    snapshot = freeze_snapshot(project=project, by=None)
    comparison = reverse("comparison", args=[project.slug, Judgment.objects.latest("pk").comparison_id])
    client = signed_in("adm")
    bodies = [client.get(page).content.decode() for page in [*pages(snapshot)[:7], comparison]]
    for body in [refused.content.decode(), *bodies]:
        assert "<script>alert" not in body and "<img" not in body
    assert "&lt;script&gt;alert" in bodies[-1] and "&lt;script&gt;alert" in refused.content.decode()


def test_freezing_twice_leads_to_the_same_snapshot(project):
    client = signed_in("adm")
    first, second = (client.post(reverse("data_freeze", args=[project.slug])) for _ in range(2))
    assert first.url == second.url
    assert b"so it stands" in client.get(second.url).content


def test_freezing_nothing_says_why(db, settings, tmp_path):
    settings.ARTIFACT_DIR = tmp_path
    project = make_project(admin=make_user("adm"))
    response = signed_in("adm").post(reverse("data_freeze", args=[project.slug]))
    assert response.status_code == 409 and b"Nothing was frozen: there is no judgment yet" in response.content


def body_of(response) -> bytes:
    return b"".join(response.streaming_content)


def test_a_download_is_the_very_file_that_the_trainer_reads(project, snapshot):
    client = signed_in("res")
    for name in ("pairs-train.jsonl", "pairs-test.jsonl", "judgments.jsonl", "manifest.json"):
        path = Path(snapshot.path) / name
        response = client.get(reverse("snapshot_file", args=[project.slug, snapshot.digest, name]))
        assert body_of(response) == path.read_bytes()
        assert response["ETag"] == f'"{file_sha256(path)}"'
        assert response["Content-Disposition"] == f'attachment; filename="debates-{snapshot.digest[:8]}-{name}"'
        again = client.get(response.request["PATH_INFO"], headers={"If-None-Match": response["ETag"]})
        assert again.status_code == 304


@pytest.mark.parametrize("name", ["card.json", "..", "..%2F..%2Fsecret_key", "%2Fetc%2Fpasswd", "x%00", "."])
def test_only_the_manifests_names_can_be_downloaded(project, snapshot, name):
    (Path(snapshot.path) / "card.json").write_text("not in the manifest")
    base = reverse("snapshot", args=[project.slug, snapshot.digest])
    assert signed_in("res").get(base + name).status_code == 404


def test_a_snapshot_of_another_project_is_not_found(project, snapshot):
    make_project("other", researcher=make_user("elsewhere"))
    client = signed_in("elsewhere")
    assert client.get(reverse("snapshot", args=["other", snapshot.digest])).status_code == 404
    assert client.get(reverse("api-snapshot", args=["other", snapshot.digest])).status_code == 404


def test_a_comparisons_page_shows_all_that_a_judgment_says(project):
    asked = {"criteria": [{"key": "clear", "label": "Clear"}], "safety": True, "rewrite": "optional"}
    asked |= {"chips": ["short"], "span_reasons": ["wrong"]}
    project.protocol_versions.create(number=2, definition=asked)
    make_comparison(project, "One way.", "Another way.")
    judgment = claim_and_answer(
        project, add_member(project, make_user("lena"), "labeler").user, strength=1,
        ratings={"clear": (4, 2)}, safety=("safe", "unsafe"), reasons=("short",), rationale="It is\nclear.",
        spans=({"place": 0, "start": None, "end": None, "quote": "way", "reason": "wrong"},), rewrite=EVIL,
    )  # fmt: skip
    page = signed_in("res").get(reverse("comparison", args=[project.slug, judgment.comparison_id]))
    first, second = judgment.ratings["clear"]
    assert list(everything_else(judgment)) == [
        ("Clear", f"#1 {first} / 5, #2 {second} / 5"),
        ("Safety", "#1 {}, #2 {}".format(*judgment.safety)),
        ("Reasons", "short"),
        ("Why", "It is\nclear."),
        (f"Marked in #{judgment.display_order[0] + 1}", "“way” (wrong)"),
        ("Better answer", EVIL),
    ]
    assert "Better answer" in page.content.decode() and EVIL not in page.content.decode()


def test_comparisons_are_listed_by_state(project):
    waiting, half = make_comparison(project), make_comparison(project, overlap=2)
    half.slots.filter(number=0).update(state="done", labeler=make_user())
    whole = make_comparison(project)
    whole.slots.update(state="done", labeler=make_user())
    client, address = signed_in("res"), reverse("comparisons", args=[project.slug])

    def listed(state: str) -> set[int]:
        return {row.pk for row in client.get(address, {"state": state}).context["rows"]}

    assert listed("open") == {waiting.pk, half.pk}
    assert listed("done") == {whole.pk} and listed("leased") == set()
    assert len(listed("")) == 5
    refused = client.get(address, {"state": "bogus"})
    assert refused.status_code == 422 and not refused.context["rows"]


def test_what_is_done_is_found_by_joins_however_many_places_are_left(project):
    plan = comparisons_in(project, "done").explain()
    assert "Anti Join" in plan and "SubPlan" not in plan


def test_judgments_come_in_pages(project, monkeypatch):
    monkeypatch.setattr("labelapp.datasets.row_views.PAGE", 4)
    client, address = signed_in("res"), reverse("judgments", args=[project.slug])
    first = client.get(address)
    second = client.get(address, {"before": first.context["next"]})
    found = [row.pk for page in (first, second) for row in page.context["rows"]]
    assert found == sorted(Judgment.objects.values_list("pk", flat=True), reverse=True)
    assert second.context["next"] is None


def test_a_page_of_judgments_is_read_by_its_rows_alone(project):
    with CaptureQueriesContext(connection) as captured:
        signed_in("res").get(reverse("judgments", args=[project.slug]))
    listed = [query["sql"] for query in captured if 'FROM "labelapp_judgment"' in query["sql"]]
    assert "NOT EXISTS" in listed[0] and "LIMIT" in listed[0] and "JOIN \"labelapp_prompt\"" not in listed[0]
    assert len(listed) == 2


def test_the_project_page_says_what_is_next_for_each_role(project):
    address = reverse("project", args=[project.slug])
    page = signed_in("res").get(address)
    assert page.context["next"].step == "Freeze" and b"6 judgments are in no snapshot yet" in page.content
    freeze_snapshot(project=project, by=None)
    admin, researcher = signed_in("adm").get(address), signed_in("res").get(address)
    assert admin.context["next"].button == "Launch a round"
    assert researcher.context["next"].button == "See the snapshot"


def test_a_candidate_asks_for_a_decision_until_there_are_new_judgments(project):
    freeze_snapshot(project=project, by=None)
    candidate = make_version(project)
    address = reverse("project", args=[project.slug])
    page = signed_in("adm").get(address)
    assert page.context["next"].step == "Promote" and candidate.name in page.context["next"].text
    vote(project, "b", group=TRAIN, prompt="Argue for something new.")
    assert signed_in("adm").get(address).context["next"].step == "Freeze"


def test_judgments_that_no_snapshot_may_hold_do_not_ask_to_be_frozen(project):
    vote(project, "b", group=TRAIN, prompt=f"ARGUE for {TEST}.")
    assert freeze_snapshot(project=project, by=None).manifest["counts"]["judgments_left_out"] == 1
    page = signed_in("adm").get(reverse("project", args=[project.slug]))
    assert page.context["facts"].unfrozen == 0 and page.context["next"].button == "Launch a round"


def test_a_new_project_starts_with_judging(db):
    project = make_project(admin=make_user("adm"))
    page = signed_in("adm").get(reverse("project", args=[project.slug]))
    assert page.context["next"].step == "Judge"
    assert [step.state for step in page.context["steps"]] == ["now"] + ["waiting"] * 5
