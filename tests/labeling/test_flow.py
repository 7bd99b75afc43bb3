"""The flow around the labeling page: consent, guidelines, progress, why nothing comes, the summary; over HTTP."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from labelapp.labeling.answers import Answer
from labelapp.labeling.forms import AnswerForm, fields_of
from labelapp.labeling.protocol import parse
from labelapp.labeling.quality.gold import hand_gold
from labelapp.labeling.quality.repeats import plan_repeat
from labelapp.labeling.summary import sitting_of
from labelapp.labeling.words import own_words
from labelapp.models import (
    Consent,
    ConsentVersion,
    Draft,
    GuidelineVersion,
    Judgment,
    Membership,
    Slot,
    WorkDay,
)
from tests.factories import make_comparison, make_user
from tests.labeling.conftest import claim_and_answer
from tests.labeling.test_page import HTMX, PAGE, form_of, submit, text

BASE = "/p/convincing/label/"
CONSENT, GUIDELINES, SEEN = BASE + "consent/", BASE + "guidelines/", BASE + "guidelines/seen/"
MINE, SUMMARY, DRAFT, SKIP = BASE + "mine/", BASE + "summary/", BASE + "draft/", BASE + "skip/"
ROUTES = [
    ("get", CONSENT), ("post", CONSENT), ("get", GUIDELINES), ("post", SEEN), ("get", MINE), ("get", MINE + "1/"),
    ("post", MINE + "1/"), ("get", SUMMARY), ("post", DRAFT), ("post", SKIP),
]  # fmt: skip


@pytest.fixture
def web(client, labeler, project):
    client.force_login(labeler)
    return client


@pytest.fixture
def member(project, labeler):
    return Membership.objects.get(project=project, user=labeler)


@pytest.fixture
def wanted(project):
    """The consent text that the project asks for."""
    version = ConsentVersion.objects.create(project=project, number=1, text="We publish *anonymous* judgments.")
    project.consent_version = version
    project.save()
    return version


@pytest.mark.parametrize(("method", "url"), ROUTES)
class TestStrangers:
    def test_an_anonymous_visitor_is_sent_to_sign_in(self, client, project, method, url):
        response = getattr(client, method)(url)
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/accounts/login/")

    def test_a_person_from_outside_learns_nothing(self, client, project, method, url):
        client.force_login(make_user())
        assert getattr(client, method)(url).status_code == 404

    def test_a_researcher_may_not(self, client, join, method, url):
        client.force_login(join(role="researcher"))
        assert getattr(client, method)(url).status_code == 403


@pytest.mark.parametrize("url", [url for method, url in ROUTES if method == "post"])
def test_a_post_without_the_token_is_refused(labeler, project, url):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(labeler)
    assert strict.post(url).status_code == 403


# Consent


@pytest.mark.parametrize(
    ("method", "url"),
    [("get", PAGE), ("post", PAGE), ("post", BASE + "undo/"), ("post", SKIP), ("post", DRAFT), ("get", MINE),
     ("get", SUMMARY), ("post", SEEN), ("post", BASE + "heartbeat/"), ("post", MINE + "1/")],
)  # fmt: skip
def test_nothing_happens_before_consent(web, project, wanted, method, url):
    make_comparison(project)
    response = getattr(web, method)(url)
    assert (response.status_code, response["Location"]) == (303, CONSENT)
    assert not Slot.objects.exclude(state="open").exists()


def test_a_script_is_refused_and_told_where_to_go(web, project, wanted):
    response = web.post(PAGE, headers=HTMX)
    assert (response.status_code, response["HX-Redirect"]) == (403, CONSENT)


def test_consent_is_asked_with_its_text_and_version_and_cited_by_every_judgment(web, project, member, wanted):
    make_comparison(project)
    page = web.get(CONSENT)
    assert "<em>anonymous</em>" in page.content.decode()
    assert "version 1" in text(page)
    response = web.post(CONSENT, {"version": wanted.pk, "accept": "yes"})
    assert (response.status_code, response["Location"]) == (303, PAGE)
    member.refresh_from_db()
    assert member.consent == Consent.objects.get()
    submit(web, form_of(web.get(PAGE)))
    assert Judgment.objects.get().consent == member.consent


@pytest.mark.parametrize(("said", "told"), [({}, "Tick the box"), ({"version": "0"}, "The text changed")])
def test_without_the_tick_or_to_another_text_there_is_no_consent(web, wanted, said, told):
    response = web.post(CONSENT, {"version": wanted.pk} | said)
    assert response.status_code == 422
    assert told in text(response)
    assert not Consent.objects.exists()


def test_a_new_text_asks_again(web, project, member, wanted):
    web.post(CONSENT, {"version": wanted.pk, "accept": "yes"})
    assert web.get(PAGE).status_code == 200
    project.consent_version = ConsentVersion.objects.create(project=project, number=2, text="More.")
    project.save()
    assert web.get(PAGE).status_code == 303
    web.post(CONSENT, {"version": project.consent_version_id, "accept": "yes"})
    assert web.get(PAGE).status_code == 200
    assert Consent.objects.count() == 2


def test_an_answer_given_before_the_text_changed_waits_as_a_draft(web, project):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    project.consent_version = ConsentVersion.objects.create(project=project, number=1, text="New.")
    project.save()
    assert submit(web, form, answer="2", rationale="not lost")["Location"] == CONSENT
    assert not Judgment.objects.exists()
    web.post(CONSENT, {"version": project.consent_version_id, "accept": "yes"})
    page = web.get(PAGE)
    assert "not lost" in page.content.decode() and form_of(page)["slot"] == form["slot"]


def test_a_project_without_a_text_asks_nothing(web):
    assert web.get(CONSENT)["Location"] == PAGE


def test_consent_costs_no_statement_on_the_usual_path(web, project, wanted, django_assert_max_num_queries):
    web.post(CONSENT, {"version": wanted.pk, "accept": "yes"})
    for _ in range(3):
        make_comparison(project)
    submit(web, form_of(web.get(PAGE)), headers=HTMX)
    form = form_of(web.get(PAGE))
    with django_assert_max_num_queries(3 + 2):
        assert submit(web, form, headers=HTMX).status_code == 200


# Guidelines


def test_the_first_version_is_noted_without_a_word(web, project, member):
    make_comparison(project)
    assert 'id="news"' not in web.get(PAGE).content.decode()
    member.refresh_from_db()
    assert member.guideline_seen == 1


def test_a_changed_version_is_shown_word_by_word_until_it_is_read(web, project, member):
    make_comparison(project)
    web.get(PAGE)
    GuidelineVersion.objects.create(project=project, number=2, text="Judge the <b>argument</b>, not the speaker.")

    page = web.get(PAGE).content.decode()
    assert "v2 replaces v1" in page
    assert "opinion" in page.split("<del>")[1].split("</del>")[0]
    assert "speaker" in page.split("<ins>")[2].split("</ins>")[0] or "speaker" in page
    assert "<b>argument</b>" not in page.split('id="news"')[1].split("</section>")[0]

    assert web.post(SEEN, {"number": "2"})["Location"] == PAGE
    member.refresh_from_db()
    assert member.guideline_seen == 2
    assert 'id="news"' not in web.get(PAGE).content.decode()


@pytest.mark.parametrize(("number", "status", "seen"), [("1", 303, 2), ("9", 303, 2), ("x", 422, 2), ("", 422, 2)])
def test_only_a_later_version_that_exists_is_noted(web, project, member, number, status, seen):
    GuidelineVersion.objects.create(project=project, number=2, text="Two.")
    Membership.objects.update(guideline_seen=2)
    assert web.post(SEEN, {"number": number}).status_code == status
    member.refresh_from_db()
    assert member.guideline_seen == seen


def test_all_versions_are_shown_with_what_changed(web, project):
    GuidelineVersion.objects.create(project=project, number=2, text="Judge the argument, not the speaker.")
    page = web.get(GUIDELINES)
    assert "Guidelines v2" in text(page) and "What changed with v2" in text(page) and "v1 of" in text(page)


# Progress, and why nothing comes


def work(project, labeler, days_ago, judged):
    day = timezone.now().date() - timedelta(days=days_ago)
    WorkDay.objects.create(project=project, labeler=labeler, day=day, judged=judged)


def test_progress_is_measured_by_the_mean_of_the_last_days_or_by_the_cap(web, project, labeler, member):
    make_comparison(project)
    assert "0 today" in text(web.get(PAGE))
    for days_ago, judged in [(0, 23), (1, 50), (2, 0), (3, 70), *((days, 60) for days in range(4, 9)), (20, 1000)]:
        work(project, labeler, days_ago, judged)
    assert "23 of ~60 today" in text(web.get(PAGE))
    member.daily_cap = 40
    member.save()
    assert "23 of 40 today" in text(web.get(PAGE))


def test_a_paused_labeler_reads_why(web, project, member):
    make_comparison(project)
    Membership.objects.update(paused_at=timezone.now(), paused_because="Please read the <new> guidelines.")
    told = web.get(PAGE)
    assert "Your work here is paused" in text(told)
    assert "Please read the &lt;new&gt; guidelines." in told.content.decode()


def test_a_reached_cap_says_when_to_come_back_and_counts_what_is_in_hand(web, project, labeler):
    make_comparison(project), make_comparison(project)
    project.daily_cap = 2
    project.save()
    work(project, labeler, 0, 1)
    form = form_of(web.get(PAGE))
    told = "Your daily limit of 2 judgments is reached. Come back tomorrow"
    assert told in text(web.get(PAGE, {"holding": form["slot"]}))
    assert told in text(submit(web, form, headers=HTMX))


def test_a_failed_quiz_is_named(web, project, labeler):
    make_comparison(project)
    gold = make_comparison(project, slots=0, gold=[[1], [0]])
    project.quiz_items = project.quiz_right = 1
    project.save()
    form = form_of(web.get(PAGE))
    assert Slot.objects.get(pk=form["slot"]).comparison == gold
    told = text(submit(web, form, answer="both_bad", headers=HTMX))
    assert "The quiz was not passed" in told and "0 of its answers were right, and 1 are needed." in told


def test_missing_tags_are_named(web, project):
    comparison = make_comparison(project, requires=["czech", "law"])
    comparison.slots.update(requires=["czech", "law"])
    Membership.objects.update(tags=["law"])
    assert "1 item waits for somebody with: czech." in text(web.get(PAGE))


def test_what_was_skipped_is_not_waited_for(web, project, join):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    web.post(SKIP, form | {"reason": "unsure"})
    other = Client()
    other.force_login(join())
    other.get(PAGE)
    assert "Nothing to compare yet" in text(web.get(PAGE))


# Ahead of time


def test_the_next_item_is_handed_out_while_one_is_in_hand_and_a_submit_keeps_it(web, project):
    for _ in range(3):
        make_comparison(project)
    first = form_of(web.get(PAGE))
    second = form_of(web.get(PAGE, {"holding": first["slot"]}, headers=HTMX))
    third = form_of(submit(web, first, answer="1", holding=second["slot"], headers=HTMX))
    assert len({first["slot"], second["slot"], third["slot"]}) == 3
    leases = dict(Slot.objects.filter(state="leased").values_list("pk", "lease_until"))
    assert leases[int(second["slot"])] > leases[int(third["slot"])]


def test_a_refused_answer_brings_no_item_that_is_in_hand(web, project):
    make_comparison(project), make_comparison(project)
    first = form_of(web.get(PAGE))
    second = form_of(web.get(PAGE, {"holding": first["slot"]}, headers=HTMX))
    refused = submit(web, first, rationale="no choice", holding=second["slot"], headers=HTMX)
    assert refused.status_code == 422
    assert form_of(refused)["slot"] == first["slot"]


def test_an_answer_of_somebody_else_is_refused_and_the_labeler_is_named_to_the_script(web, project, join, labeler):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    other = Client()
    stranger = join()
    other.force_login(stranger)
    response = submit(other, form, headers=HTMX)
    assert (response.status_code, response["X-Labeler"]) == (422, str(stranger.pk))
    assert not Judgment.objects.exists()


# Drafts


def keep(web, form, revision, **body):
    body = json.dumps(body | {"revision": revision})
    return web.post(DRAFT, {"claim": form["claim"], "revision": revision, "body": body}).status_code


def test_a_draft_comes_back_with_the_item_and_never_after_the_answer(web, project):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    assert keep(web, form, 20, answer="-2", rationale="so far") == 204
    assert keep(web, form, 10, rationale="older") == 409
    page = web.get(PAGE).content.decode()
    assert "so far" in page and 'data-kept="20"' in page
    assert page.count(" checked") == 1
    submit(web, form)
    assert keep(web, form, 30, rationale="late") == 409
    assert not Draft.objects.exists()


@pytest.mark.parametrize(("revision", "body"), [("x", "{}"), ("-1", "{}"), ("1", "[]"), ("1", "{"), ("9" * 19, "{}")])
def test_a_draft_that_cannot_be_read_is_422(web, project, revision, body):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    assert web.post(DRAFT, {"claim": form["claim"], "revision": revision, "body": body}).status_code == 422


# The summary


def test_the_summary_counts_today_and_this_sitting(web, project, labeler):
    for seconds in (10, 20, 90):
        make_comparison(project)
        claim_and_answer(project, labeler, strength=1, active_seconds=seconds)
    told = text(web.get(SUMMARY))
    assert "3 today" in told and "3 in this sitting" in told
    assert "20 s" in told
    assert "No item has come to you twice yet." in told
    assert "Known answers" not in told


def test_a_sitting_ends_with_half_an_hour_of_rest():
    now = timezone.now()
    moments = [now - timedelta(minutes=minutes) for minutes in (0, 5, 30, 61, 70)]
    assert sitting_of(moments) == 3
    assert sitting_of([]) == 0


def test_the_summary_tells_steadiness_and_known_answers(web, project, labeler):
    make_comparison(project)
    Slot.objects.filter(pk=plan_repeat(claim_and_answer(project, labeler, strength=2)).pk).update(after_judged=0)
    assert claim_and_answer(project, labeler, both_bad=True).slot.purpose == "repeat"
    make_comparison(project, gold=[[0], [1]], slots=0)
    hand_gold(project, labeler.pk)
    Slot.objects.filter(purpose="gold").update(display_order=[0, 1])
    claim_and_answer(project, labeler, strength=-2)
    told = text(web.get(SUMMARY))
    assert "Steadiness 0 of 1" in told
    assert "Known answers 1 of 1" in told


# My last 20


def test_my_last_judgments_are_told_in_words_and_can_be_changed_without_script(web, project, labeler):
    comparison = make_comparison(project, "one", "two")
    comparison.slots.update(display_order=[1, 0])
    old = claim_and_answer(project, labeler, strength=-3, rationale="because")
    page = web.get(MINE)
    assert "A far better" in text(page) and comparison.prompt.last_turn in text(page)

    url = f"{MINE}{old.pk}/"
    shown = web.get(url)
    page = shown.content.decode()
    assert page.index(">two<") < page.index(">one<") or page.index("two") < page.index("one")
    assert page.count(" checked") == 1 and "because" in page
    form = form_of(shown)
    response = web.post(url, form | {"answer": "1", "rationale": "looked again"})
    assert (response.status_code, response["Location"]) == (303, MINE)
    new = Judgment.objects.standing().get()
    assert (new.replaces, new.strength, new.rationale) == (old, -1, "looked again")
    assert web.post(url, form | {"answer": "1", "rationale": "looked again"}).status_code == 303
    assert Judgment.objects.count() == 2
    assert "B slightly better" in text(web.get(MINE))


def test_a_change_that_is_no_answer_is_refused_and_keeps_what_was_written(web, project, labeler):
    make_comparison(project)
    url = f"{MINE}{claim_and_answer(project, labeler).pk}/"
    response = web.post(url, form_of(web.get(url)) | {"answer": "", "rationale": "I wrote this"})
    assert response.status_code == 422
    assert "Nothing is chosen yet" in text(response) and "I wrote this" in text(response)
    assert Judgment.objects.count() == 1


def test_what_was_replaced_meanwhile_is_not_changed_again(web, project, labeler):
    make_comparison(project)
    url = f"{MINE}{claim_and_answer(project, labeler).pk}/"
    first, second = form_of(web.get(url)), form_of(web.get(url))
    web.post(url, first | {"answer": "2"})
    response = web.post(url, second | {"answer": "3"})
    assert response.status_code == 409
    assert "not among your last 20" in text(response)


def test_nobody_sees_or_changes_a_judgment_of_somebody_else(web, project, join):
    make_comparison(project)
    other = claim_and_answer(project, join(), strength=2)
    url = f"{MINE}{other.pk}/"
    assert web.get(url).status_code == 404
    form = {"claim": "-", "submission_id": str(uuid4()), "answer": "1"}
    assert web.post(url, form).status_code == 404
    assert f"#{other.pk}" not in text(web.get(MINE))


def test_only_the_last_twenty_are_shown(web, project, labeler):
    for _ in range(21):
        make_comparison(project)
    rows = [claim_and_answer(project, labeler) for _ in range(21)]
    page = text(web.get(MINE))
    assert f"#{rows[-1].pk} " in page and f"#{rows[0].pk} " not in page
    assert web.get(f"{MINE}{rows[0].pk}/").status_code == 404


# Words and fields


@pytest.mark.parametrize(
    "answer",
    [
        Answer(strength=-2, rationale="so", reasons=("clear", "short")),
        Answer(strength=2, ratings={"fit": (1, None)}, safety=("safe", "unsafe")),
        Answer(both_bad=True, rewrite="better", rewrite_of=1),
        Answer(ranking=((1,), (0,)), unrankable=(2,)),
        Answer(strength=0, spans=({"place": 1, "start": 0, "end": 3, "quote": "two", "reason": "wrong"},)),
    ],
)  # fmt: skip
def test_the_form_reads_an_answer_back_from_its_own_fields(answer):
    protocol = parse({
        "criteria": [{"key": "fit", "label": "Fit"}] if answer.ratings else [], "safety": bool(answer.safety),
        "span_reasons": ["wrong"], "chips": ["clear", "short"], "rewrite": "both_bad",
    })  # fmt: skip
    fields = fields_of(answer) | {"claim": "-", "submission_id": str(uuid4())}
    assert AnswerForm(fields).said(protocol, 2)["answer"] == answer


def test_lines_end_as_they_were_typed():
    fields = {"claim": "-", "submission_id": str(uuid4()), "answer": "1", "rationale": "one\r\ntwo"}
    assert AnswerForm(fields).said(parse({}), 2)["answer"].rationale == "one\ntwo"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(strength=-3), "A far better"),
        (Answer(strength=1), "B slightly better"),
        (Answer(strength=0), "A and B equal"),
        (Answer(both_bad=True), "both bad"),
        (Answer(ranking=((2,), (0, 1))), "C > A = B"),
        (Answer(rewrite="mine"), "an answer of your own"),
        (Answer(), "rated"),
    ],
)
def test_an_answer_is_told_by_the_letters_that_were_seen(answer, words):
    assert own_words(answer, parse({})) == words
