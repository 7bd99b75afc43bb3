"""The setup pages: who may, what they save, what they refuse, and that nothing written in them becomes markup."""

import random
import threading

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from labelapp.labeling.protocol import Criterion, Protocol, parse
from labelapp.labeling.quality.gold import make_gold
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import BadProtocol, BadSetup, NameTaken
from labelapp.labeling.setup.actions import (
    Moved,
    Rules,
    create_project,
    move_open_comparisons,
    save_protocol,
    save_text,
    set_rules,
)
from labelapp.labeling.setup.composer import Composer, as_data
from labelapp.labeling.setup.extension import extend_open_comparisons
from labelapp.labeling.setup.presets import PRESETS
from labelapp.models import Comparison, ConsentVersion, GuidelineVersion, Project, Slot
from tests.factories import make_comparison, make_project, make_user
from tests.labeling.conftest import claim_and_answer

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
RULES = {
    "overlap": 2, "max_overlap": 4, "daily_cap": 100, "repeat_share": 5, "gold_share": 2.5, "quiz_items": 5,
    "quiz_right": 4, "review_share": 10, "minimum_seconds": 1.5, "hourly_cost": "14.50", "currency": "eur",
}  # fmt: skip
GET_PAGES = [
    "setup", "setup_project", "setup_protocol", "setup_protocol_versions", "setup_guidelines",
    "setup_guidelines_versions", "setup_consent", "setup_consent_versions", "setup_queue",
]  # fmt: skip
POST_PAGES = [
    "setup_protocol_preview", "setup_guidelines_preview", "setup_consent_preview", "setup_consent_required",
    "setup_queue_extend", "setup_guidelines_reask",
]  # fmt: skip


@pytest.fixture
def admin(db):
    return make_user("ada")


@pytest.fixture
def project(admin):
    people = {role: make_user(role) for role in ("labeler", "reviewer", "researcher")}
    return make_project("debates", admin=admin, **people)


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def client(admin):
    return signed_in(admin)


def address(name, project):
    return reverse(name, args=[project.slug])


def post(client, page, project, **said):
    return client.post(address(page, project), said, follow=True)


def said(protocol: Protocol, **more) -> dict:
    """The composer's form as a browser sends it: an unticked box is not sent."""
    return {key: value for key, value in as_data(protocol).items() if value is not False} | more


def asked(project) -> Protocol:
    return parse(project.protocol_versions.last().definition)


# Who may

@pytest.mark.parametrize("name", [*GET_PAGES, *POST_PAGES])
def test_only_admins_set_up(name, project):
    method = "get" if name in GET_PAGES else "post"
    for member in project.memberships.all():
        expected = 200 if member.role == "admin" else 403
        answer = getattr(signed_in(member.user), method)(address(name, project), follow=True)
        assert answer.status_code == expected, member.role
    assert getattr(signed_in(make_user()), method)(address(name, project)).status_code == 404
    assert "/accounts/login/" in getattr(Client(), method)(address(name, project)).headers["Location"]


@pytest.mark.parametrize("name", [*GET_PAGES[1:], *POST_PAGES])
def test_writing_needs_the_token_of_the_page(name, project, admin):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    assert client.post(address(name, project), {"do": "save", "text": "x"}).status_code == 403


def test_a_new_project_is_made_by_admins_and_superusers_only(project, admin):
    new = reverse("project_new")
    assert signed_in(admin).get(new).status_code == 200
    assert signed_in(project.memberships.get(role="researcher").user).get(new).status_code == 403
    assert Client().get(new).status_code == 302
    root = make_user("root")
    assert signed_in(root).post(new, {"name": "x", "preset": "default"}).status_code == 403
    root.is_superuser = True
    root.save()
    assert signed_in(root).post(new, {"name": "Fresh", "preset": "llama-2"}).status_code == 302
    made = Project.objects.get(slug="fresh")
    assert made.memberships.get().role == "admin" and made.memberships.get().user == root
    assert asked(made) == PRESETS["llama-2"].protocol


def test_home_offers_a_new_project_to_those_who_may_make_one(project, admin):
    other = make_project("other", admin=admin)
    researcher = project.memberships.get(role="researcher").user
    other.memberships.create(user=researcher, role="researcher")
    new = reverse("project_new")
    assert new in signed_in(admin).get(reverse("home")).content.decode()
    assert new not in signed_in(researcher).get(reverse("home")).content.decode()


# New projects

@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": " "}, "needs a name"),
        ({"name": "x" * 121}, "1 to 120"),
        ({"name": "é", "slug": "a b"}, "'a b' must be letters"),
        ({"name": "日本"}, "'' must be letters"),
        ({"name": "x", "slug": "y" * 51}, "51 characters"),
        ({"name": "x", "description": "y" * 2001}, "2001 characters"),
    ],
)
def test_a_project_that_cannot_be_is_refused_by_name(admin, fields, says):
    with pytest.raises(BadSetup, match=says):
        create_project(protocol=Protocol(), by=admin, **fields)
    assert not Project.objects.exists()


def test_a_short_name_is_taken_once(project, client, admin):
    with pytest.raises(NameTaken, match="'debates' already"):
        create_project(name="Debates", protocol=Protocol(), by=admin)
    answer = client.post(reverse("project_new"), {"name": "Debates", "preset": "default"})
    assert answer.status_code == 409
    assert "debates" in answer.content.decode() and Project.objects.count() == 1


def test_name_and_description_change_and_the_short_name_stays(project, client):
    post(client, "setup_project", project, name="Talks", description="Which talk is better?")
    project.refresh_from_db()
    assert (project.name, project.description, project.slug) == ("Talks", "Which talk is better?", "debates")
    assert client.post(address("setup_project", project), {"name": ""}).status_code == 422


# The protocol

@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_a_preset_passes_through_the_form_unchanged(preset, project, client):
    assert Composer(protocol=preset.protocol).protocol() == preset.protocol
    page = client.get(address("setup_protocol", project), {"preset": preset.key})
    assert page.status_code == 200 and "<iframe" in page.content.decode()
    post(client, "setup_protocol", project, do="save", **said(preset.protocol))
    assert asked(project) == preset.protocol


def test_saving_makes_the_next_version_and_the_same_again_makes_none(project, client):
    protocol = Protocol(question="Which is kinder?", chips=("warmer",))
    for _ in range(2):
        answer = post(client, "setup_protocol", project, do="save", **said(protocol))
        assert answer.status_code == 200
    assert [version.number for version in project.protocol_versions.all()] == [1, 2]
    assert asked(project) == protocol
    assert "Nothing has changed" in answer.content.decode()


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"question": " "}, "id_question", "required"),
        ({"grades": "better"}, "id_grades", "give 3 words, not 1"),
        ({"form": "triple"}, "id_form", "triple"),
        ({"form": "rating"}, "form", "needs at least one criterion"),
        ({"form": "ranking", "chat": "on"}, "id_chat", "live chat compares pairs"),
        ({"rationale_words": "101"}, "id_rationale_words", "100"),
        ({"chips": "x" * 61}, "id_chips", "1 to 60 characters"),
    ],
)
def test_what_cannot_be_asked_is_said_at_its_field_and_not_saved(project, client, change, field, says):
    sent = said(Protocol(), do="save") | change
    answer = client.post(address("setup_protocol", project), sent)
    assert answer.status_code == 422
    assert says in errors_at(answer, field)
    preview = client.post(address("setup_protocol_preview", project), sent)
    assert preview.status_code == 200 and says in errors_at(preview, field)
    assert "<iframe" not in preview.content.decode()
    assert project.protocol_versions.count() == 1


def errors_at(answer, field: str) -> str:
    """What stands in the field's place for errors."""
    return answer.content.decode().split(f'id="errors-{field}"')[1].split("</div>")[0]


def test_an_error_of_a_criterion_is_said_in_its_row(project, client):
    rows = (Criterion("a", "A"), Criterion("b", "B", low=3, high=9))
    sent = said(Protocol(criteria=rows), do="save") | {"criterion_1-high": "2"}
    answer = client.post(address("setup_protocol", project), sent)
    assert "high: 2 must be a whole number from 4" in errors_at(answer, "id_criterion_1-high")


def test_rows_are_added_moved_and_removed_without_saving(project, client):
    rows = tuple(Criterion(key, key.upper()) for key in "abc")
    sent = said(Protocol(criteria=rows))

    def labels(do):
        composer = client.post(address("setup_protocol", project), sent | {"do": do}).context["composer"]
        return [row["label"].value() for row in composer.rows]

    assert labels("add") == ["A", "B", "C", ""]
    assert labels("up:1") == ["B", "A", "C"]
    assert labels("down:1") == ["A", "C", "B"]
    assert labels("remove:0") == ["B", "C"]
    for nothing in ("up:0", "down:2", "remove:7", "up:x", "explode"):
        assert labels(nothing) == ["A", "B", "C"]
    assert project.protocol_versions.count() == 1


def test_a_row_without_a_label_is_left_out_and_a_key_is_made_from_the_label(project, client):
    sent = said(Protocol(), criteria="2") | {"criterion_0-kind": "likert", "criterion_1-kind": "flag"}
    post(client, "setup_protocol", project, do="save", **sent | {"criterion_1-label": "Überall gut?"})
    assert [(c.key, c.kind) for c in asked(project).criteria] == [("überall_gut", "flag")]


def test_htmx_gets_the_section_alone(project, client):
    answer = client.post(address("setup_protocol", project), said(Protocol(), do="add"), headers={"HX-Request": "true"})
    assert answer.content.decode().lstrip().startswith('<div id="composer"')


def test_the_preview_shows_the_projects_own_comparison_or_a_made_up_one(project, client):
    def shown(protocol):
        return client.post(address("setup_protocol_preview", project), said(protocol)).content.decode()

    assert "why the sky is blue" in shown(Protocol())
    make_comparison(project, "Trains are fast.", "Trains are slow.")
    assert "Trains are fast." in shown(Protocol())
    assert "why the sky is blue" in shown(Protocol(form="ranking"))
    make_comparison(project, "One.", "Two.", "Three.")
    assert "Three." in shown(Protocol(form="ranking"))
    assert "Trains" in shown(Protocol())
    assert Slot.objects.filter(state="leased").count() == 0


def test_any_two_versions_can_be_compared_and_an_older_one_made_current(project, client):
    save_protocol(project=project, definition=Protocol(question="Which is kinder?", tie=False).as_json())
    page = client.get(address("setup_protocol_versions", project), {"old": "1", "new": "2"}).content.decode()
    assert "<del>" in page and "kinder" in page and "Answers beside the grades" in page
    post(client, "setup_protocol_versions", project, number="1")
    assert [version.number for version in project.protocol_versions.all()] == [1, 2, 3]
    assert asked(project).question == "Which answer is better?"
    assert client.post(address("setup_protocol_versions", project), {"number": "9"}).status_code == 404
    assert client.get(address("setup_protocol", project), {"version": "2"}).context["composer"].protocol().tie is False
    for missing in ({"version": "9"}, {"version": "x"}, {"preset": "x"}):
        assert client.get(address("setup_protocol", project), missing).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_admins_who_save_at_once_get_numbers_of_their_own(project):
    numbers = []

    def save(question):
        numbers.append(save_protocol(project=project, definition={"question": question})[0].number)
        connection.close()

    threads = [threading.Thread(target=save, args=[f"Question {number}?"]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [2, 3, 4, 5, 6, 7]


# Moving what is open

def test_open_comparisons_move_where_they_fit_and_nobody_has_touched_them(project):
    labeler = project.memberships.get(role="labeler").user
    judged = make_comparison(project, overlap=2)
    claim_and_answer(project, labeler)
    held = make_comparison(project, overlap=2)
    assert claim_slot(project=project, labeler=labeler).comparison_id == held.pk
    fits, wide = make_comparison(project), make_comparison(project, "a", "b", "c")
    imported = make_comparison(project, slots=0)
    version, _ = save_protocol(project=project, definition=Protocol(form="rating", safety=True).as_json())
    assert move_open_comparisons(version=version) == Moved(moved=2, judged=1, held=1)
    under = dict(Comparison.objects.values_list("pk", "protocol__number"))
    assert under == {judged.pk: 1, held.pk: 1, fits.pk: 2, wide.pk: 2, imported.pk: 1}


def test_those_that_do_not_fit_stay_and_the_page_says_how_many_and_why(project, client):
    pair, four = make_comparison(project), make_comparison(project, "a", "b", "c", "d")
    version, _ = save_protocol(project=project, definition=Protocol(form="demonstration").as_json())
    assert move_open_comparisons(version=version) == Moved(unfit=2)
    answer = post(client, "setup_protocol", project, do="save", move_open="1", **said(Protocol(form="ranking")))
    page = answer.content.decode()
    assert "2 open comparisons were moved" in page
    pair.refresh_from_db()
    assert pair.protocol.number == 3
    assert four.slots.get().state == "open"


def test_a_moved_comparison_is_asked_and_judged_under_the_new_version(project):
    make_comparison(project)
    version, _ = save_protocol(project=project, definition=Protocol(max_strength=1).as_json())
    move_open_comparisons(version=version)
    judgment = claim_and_answer(project, project.memberships.get(role="labeler").user, strength=1)
    assert judgment.protocol == version


# Texts

@pytest.mark.parametrize(("name", "model"), [("guidelines", GuidelineVersion), ("consent", ConsentVersion)])
def test_a_text_is_saved_in_versions_compared_and_restored(project, client, name, model):
    before = model.objects.count()
    post(client, f"setup_{name}", project, do="save", text="Be fair.\r\nAlways.")
    post(client, f"setup_{name}", project, do="save", text="Be kind.\nAlways.")
    answer = post(client, f"setup_{name}", project, do="save", text="Be kind.\nAlways.\n")
    assert "Nothing has changed" in answer.content.decode()
    rows = list(model.objects.filter(project=project))
    assert len(rows) == before + 2 and rows[-2].text == "Be fair.\nAlways."
    page = client.get(address(f"setup_{name}_versions", project)).content.decode()
    assert "fair" in page.split("<del>")[1].split("</del>")[0]
    post(client, f"setup_{name}_versions", project, number=str(rows[-2].number))
    assert model.objects.filter(project=project).last().text == "Be fair.\nAlways."
    assert client.post(address(f"setup_{name}_versions", project), {"number": "99"}).status_code == 404


def test_a_text_is_previewed_and_not_saved(project, client):
    page = client.post(address("setup_guidelines_preview", project), {"text": "# Hello\n\n**bold**"}).content.decode()
    assert "<strong>bold</strong>" in page
    page = client.post(address("setup_guidelines", project), {"text": "**bold**", "do": "preview"})
    assert page.status_code == 200 and "<strong>bold</strong>" in page.content.decode()
    assert project.guideline_versions.count() == 1


@pytest.mark.parametrize("text", ["", "  \n", "x" * 50_001, "a\x00b"])
def test_a_text_that_cannot_be_is_refused(project, client, text):
    assert client.post(address("setup_guidelines", project), {"text": text, "do": "save"}).status_code == 422
    with pytest.raises(BadSetup):
        save_text(project=project, model=GuidelineVersion, text=text)
    assert project.guideline_versions.count() == 1


def test_the_consent_starts_from_a_template_and_is_required_on_purpose(project, client):
    page = client.get(address("setup_consent", project)).content.decode()
    assert all(word in page for word in ("Uses", "Publication", "Withdrawal"))
    post(client, "setup_consent", project, do="save", text="One.")
    project.refresh_from_db()
    assert project.consent_version is None
    answer = post(client, "setup_consent", project, do="save", text="Two.", require="1")
    assert "must accept it before they go on" in answer.content.decode()
    project.refresh_from_db()
    assert project.consent_version.number == 2
    post(client, "setup_consent_required", project, number="1")
    project.refresh_from_db()
    assert project.consent_version.number == 1
    post(client, "setup_consent_required", project, number="")
    project.refresh_from_db()
    assert project.consent_version is None


def test_the_consent_of_another_project_cannot_be_required(project, client, admin):
    other = make_project("other", admin=admin)
    save_text(project=other, model=ConsentVersion, text="Theirs.")
    assert client.post(address("setup_consent_required", project), {"number": "1"}).status_code == 404


def test_answers_under_an_old_version_of_the_guidelines_are_asked_again(project, client):
    make_comparison(project)
    labeler = project.memberships.get(role="labeler").user
    judgment = claim_and_answer(project, labeler)
    save_text(project=project, model=GuidelineVersion, text="New rules.")
    assert "Ask again what was answered under version 1" in client.get(
        address("setup_guidelines_versions", project)
    ).content.decode()
    assert "Say in 1 to 1000" in post(client, "setup_guidelines_reask", project, number="1").content.decode()
    asked = post(client, "setup_guidelines_reask", project, number="1", note=" See v2. ").content.decode()
    assert "1 answer is asked again." in asked
    slot = claim_slot(project=project, labeler=labeler)
    assert (slot.pk, slot.note, slot.purpose) == (judgment.slot_id, "See v2.", "reask")
    none = post(client, "setup_guidelines_reask", project, number="1", note="See v2.").content.decode()
    assert "No answer is asked again. 1 is with its labeler already." in none
    assert client.post(address("setup_guidelines_reask", project), {"number": "7", "note": "x"}).status_code == 404


# The queue's rules

def test_a_quiz_is_not_switched_on_while_there_is_nothing_to_ask(project, client):
    answer = client.post(address("setup_queue", project), RULES)
    assert answer.status_code == 422
    assert "There is nothing to ask in a quiz" in answer.content.decode()
    project.refresh_from_db()
    assert project.quiz_items == 0


def test_rules_are_saved_and_shares_are_written_in_percent(project, client):
    make_gold(make_comparison(project), gold=[[0], [1]])
    assert "Saved" in post(client, "setup_queue", project, **RULES).content.decode()
    project.refresh_from_db()
    assert (project.overlap, project.max_overlap, project.daily_cap) == (2, 4, 100)
    assert (project.repeat_share, project.gold_share, project.review_share) == (0.05, 0.025, 0.1)
    assert (project.quiz_items, project.quiz_right, project.minimum_seconds) == (5, 4, 1.5)
    assert (str(project.hourly_cost), project.currency) == ("14.50", "EUR")
    page = client.get(address("setup_queue", project)).content.decode()
    assert 'value="2.5"' in page
    empty = {name: "" for name in ("max_overlap", "daily_cap", "hourly_cost")}
    post(client, "setup_queue", project, **RULES | empty)
    project.refresh_from_db()
    assert (project.max_overlap, project.daily_cap, project.hourly_cost) == (None, None, None)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"overlap": 0}, "overlap"),
        ({"overlap": 5}, "max_overlap"),  # which is 4
        ({"max_overlap": 51}, "max_overlap"),
        ({"daily_cap": 0}, "daily_cap"),
        ({"daily_cap": 10**12}, "daily_cap"),
        ({"repeat_share": 51}, "repeat_share"),
        ({"repeat_share": "nan"}, "repeat_share"),
        ({"gold_share": -1}, "gold_share"),
        ({"quiz_right": 6}, "quiz_right"),
        ({"quiz_items": 40000}, "quiz_items"),
        ({"review_share": 101}, "review_share"),
        ({"minimum_seconds": 121}, "minimum_seconds"),
        ({"hourly_cost": -1}, "hourly_cost"),
        ({"hourly_cost": "12.345"}, "hourly_cost"),
        ({"currency": "€"}, "currency"),
    ],
)
def test_a_rule_that_cannot_be_is_said_at_its_field(project, client, change, field):
    answer = client.post(address("setup_queue", project), RULES | change)
    assert answer.status_code == 422
    assert "errorlist" in errors_at(answer, f"id_{field}")
    project.refresh_from_db()
    assert project.overlap == 1


def test_the_shell_is_refused_what_the_page_refuses(project):
    good = dict(
        overlap=2, max_overlap=None, daily_cap=None, repeat_share=0.0, gold_share=0.0, quiz_items=0, quiz_right=0,
        review_share=0.0, minimum_seconds=0.0, hourly_cost=None, currency="EUR",
    )  # fmt: skip
    set_rules(project=project, rules=Rules(**good))
    for change in ({"max_overlap": 1}, {"quiz_right": 1}, {"gold_share": 0.6}, {"currency": "eu"}, {"hourly_cost": -1}):
        with pytest.raises(BadSetup) as refused:
            set_rules(project=project, rules=Rules(**good | change))
        assert refused.value.field == next(iter(change))


# Extending

def orders(comparison):
    return [slot.display_order for slot in comparison.slots.order_by("number")]


def test_open_comparisons_get_the_missing_places_in_balanced_orders(project, client):
    labeler = project.memberships.get(role="labeler").user
    done = make_comparison(project)
    claim_and_answer(project, labeler)
    pair, three = make_comparison(project), make_comparison(project, "a", "b", "c")
    Project.objects.filter(pk=project.pk).update(overlap=3)
    assert "2 open comparisons get fewer" in client.get(address("setup_queue", project)).content.decode()
    assert "4 places to judge were added" in post(client, "setup_queue_extend", project).content.decode()
    assert [c.slots.count() for c in (done, pair, three)] == [1, 3, 3]
    assert orders(pair)[:2] == [[0, 1], [1, 0]]
    assert {tuple(sorted(place)) for place in zip(*orders(three), strict=True)} == {(0, 1, 2)}
    pair.refresh_from_db()
    assert pair.overlap == 3
    assert "0 places" in post(client, "setup_queue_extend", project).content.decode()


def test_a_long_queue_is_extended_chunk_by_chunk_each_once(project, monkeypatch):
    monkeypatch.setattr("labelapp.labeling.setup.extension.CHUNK", 2)
    comparisons = [make_comparison(project) for _ in range(5)]
    Project.objects.filter(pk=project.pk).update(overlap=2)
    assert extend_open_comparisons(project=project) == 5
    assert [comparison.slots.count() for comparison in comparisons] == [2] * 5
    assert extend_open_comparisons(project=project) == 0


@pytest.mark.django_db(transaction=True)
def test_two_admins_extend_at_once_while_labelers_judge_and_each_comparison_gets_its_number(project):
    people = [make_user() for _ in range(3)]
    for person in people:
        project.memberships.create(user=person, role="labeler")
    comparisons = [make_comparison(project) for _ in range(12)]
    Project.objects.filter(pk=project.pk).update(overlap=3)
    project.refresh_from_db()
    failures = []

    def run(work):
        try:
            work()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    def judge_some(person):
        for _ in range(6):
            if claim_slot(project=project, labeler=person):
                claim_and_answer(project, person)

    jobs = [lambda: extend_open_comparisons(project=project, rng=random.Random(1)) for _ in range(3)]
    jobs += [lambda person=person: judge_some(person) for person in people]
    threads = [threading.Thread(target=run, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for comparison in comparisons:
        comparison.refresh_from_db()
        assert comparison.slots.count() == comparison.overlap in (1, 3)
        assert comparison.overlap == 3 or not comparison.slots.filter(state="open").exists()


# Markup

def test_nothing_that_is_written_here_becomes_markup(project, client, admin):
    evil = Protocol(
        question=EVIL, grades=(EVIL[:60],) * 3, chips=(EVIL[:60],), span_reasons=(EVIL[:60],),
        criteria=(Criterion("k", EVIL, low_word=EVIL[:60], high_word=EVIL[:60], help=EVIL),),
    )  # fmt: skip
    make_comparison(project, EVIL, f"{EVIL} again")
    preview = client.post(address("setup_protocol_preview", project), said(evil)).content.decode()
    frame = preview.split('srcdoc="')[1].split('"')[0]
    assert "&lt;" in frame and "<" not in frame
    post(client, "setup_protocol", project, do="save", **said(evil))
    post(client, "setup_project", project, name=EVIL, description=EVIL)
    for name in ("guidelines", "consent"):
        post(client, f"setup_{name}", project, do="save", text=EVIL, require="1")
        post(client, f"setup_{name}", project, do="save", text=f"{EVIL} javascript:alert(1)")
    pages = [client.get(address(name, project)).content.decode() for name in GET_PAGES]
    pages += [client.get(reverse("home"), follow=True).content.decode(), preview]
    pages.append(client.post(address("setup_protocol", project), said(evil) | {"grades": EVIL}).content.decode())
    for page in pages:
        assert "<script>alert" not in page and "<img" not in page


def test_a_definition_that_no_protocol_has_is_not_saved(project):
    with pytest.raises(BadProtocol):
        save_protocol(project=project, definition={"question": "x", "colour": "red"})
    assert project.protocol_versions.count() == 1


def test_the_overview_says_what_is_set_up_and_what_is_missing(project, client):
    page = client.get(address("setup", project)).content.decode()
    assert "Which answer is better?" in page and "Nothing has to be accepted." in page
    assert "Swapped repeats" not in page
    make_gold(make_comparison(project), gold=[[0], [1]])
    post(client, "setup_queue", project, **RULES)
    page = client.get(address("setup", project)).content.decode()
    assert "Swapped repeats, in percent</dt><dd>5</dd>" in page and "14.50" in page
