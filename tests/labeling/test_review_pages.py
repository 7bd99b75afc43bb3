"""The reviewer's pages over HTTP: who may, what they show, what a click does."""

import re
from uuid import uuid4

import pytest
from django.test import Client

from labelapp.labeling.actions import revise
from labelapp.labeling.answers import Answer
from labelapp.models import Judgment, Review
from tests.factories import make_comparison, make_user
from tests.labeling.conftest import claim_and_answer

QUEUE, HISTORY = "/p/convincing/review/", "/p/convincing/review/history/"
RICH = {
    "question": "Which is better?",
    "criteria": [
        {"key": "clear", "label": "Clear", "low": 1, "high": 5},
        {"key": "sourced", "label": "Names a source", "kind": "flag"},
    ],
    "safety": True,
    "span_reasons": ["wrong"],
    "chips": ["a better source"],
}


@pytest.fixture
def judgment(project, labeler):
    project.review_share = 1
    project.save()
    make_comparison(project, "Because of this.", "Because of that.")
    return claim_and_answer(project, labeler, strength=2, rationale="<b>Clearer</b>.")


@pytest.fixture
def reviewer(join):
    return join("rita", role="reviewer")


@pytest.fixture
def web(client, reviewer):
    client.force_login(reviewer)
    return client


def one(judgment):
    return f"{QUEUE}{judgment.pk}/"


def text(response):
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode().split("<main", 1)[-1]).split())


def correction(strength=-1, **more):
    return {"verdict": "corrected", "claim": "review", "submission_id": str(uuid4()), "answer": str(strength), **more}


# Who may


class TestStrangers:
    def test_anonymous_visitors_sign_in_and_strangers_find_nothing(self, client, judgment):
        for url in (QUEUE, HISTORY, one(judgment)):
            assert client.get(url)["Location"].startswith("/accounts/login/")
        assert client.post(one(judgment), {"verdict": "accepted"}).status_code == 302
        client.force_login(make_user())
        for url in (QUEUE, HISTORY, one(judgment)):
            assert client.get(url).status_code == 404
        assert client.post(one(judgment), {"verdict": "accepted"}).status_code == 404
        assert not Review.objects.exists()

    @pytest.mark.parametrize("role", ["labeler", "researcher"])
    def test_other_roles_may_not_review(self, client, join, judgment, role):
        client.force_login(join(role=role))
        for url in (QUEUE, HISTORY, one(judgment)):
            assert client.get(url).status_code == 403
        assert client.post(one(judgment), {"verdict": "accepted"}).status_code == 403

    def test_an_admin_may(self, client, join, judgment):
        client.force_login(join(role="admin"))
        assert client.get(QUEUE).status_code == 200

    def test_a_reviewer_of_another_project_finds_nothing_here(self, web, judgment, make_other):
        assert web.get(f"/p/{make_other}/review/{judgment.pk}/").status_code == 404
        assert web.post(f"/p/{make_other}/review/{judgment.pk}/", {"verdict": "accepted"}).status_code == 404

    def test_a_post_without_the_token_is_refused(self, reviewer, judgment):
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(reviewer)
        assert strict.post(one(judgment), {"verdict": "accepted"}).status_code == 403

    def test_ones_own_judgment_is_not_found(self, client, join, project, judgment):
        admin = join(role="admin")
        make_comparison(project)
        own = claim_and_answer(project, admin)
        client.force_login(admin)
        assert client.get(one(own)).status_code == 404


@pytest.fixture
def make_other(reviewer):
    from tests.factories import make_project

    return make_project(reviewer=reviewer).slug


# What is shown


def test_the_page_shows_what_was_said_and_never_who_said_it(web, judgment, labeler):
    page = web.get(QUEUE)
    shown = text(page)
    assert f"labeler-{labeler.pk} said: B better" in shown
    assert labeler.username not in shown
    assert "It was drawn at random. 1 waits" in shown
    assert "&lt;b&gt;Clearer&lt;/b&gt;." in page.content.decode()
    assert re.search(r'value="2"[^>]* checked', page.content.decode())


def test_everything_that_was_said_is_shown_in_words(web, project, labeler, judgment):
    project.protocol_versions.create(number=2, definition=RICH)
    make_comparison(project, "Because of this.", "Because of that.")
    rich = claim_and_answer(
        project, labeler, strength=-3, ratings={"clear": (4, 2), "sourced": (1, 0)}, safety=("safe", "unsafe"),
        spans=({"place": 1, "start": None, "end": None, "quote": "Because", "reason": "wrong"},),
        reasons=("a better source",), rationale="It names one.",
    )  # fmt: skip
    shown = text(web.get(one(rich)))
    for words in (
        "A far better", "Clear A 4 / 5, B 2 / 5", "Names a source A yes, B no", "Safety A safe, B unsafe",
        "Marked in B “Because” (wrong)", "Reasons a better source", "Why It names one.",
    ):  # fmt: skip
        assert words in shown


def test_passing_over_leads_to_the_next_and_back(web, project, labeler, judgment):
    address = re.search(r'id="past" href="([^"]*)"', web.get(QUEUE).content.decode())[1].replace("&amp;", "&")
    assert f"past={judgment.pk}" in address
    assert "Only what you passed over is left" in text(web.get(address))
    assert web.get(QUEUE + "?past=x&past=99999999999999999999").status_code == 200


def test_nothing_to_review_is_said(web, project):
    assert "Nothing to review" in text(web.get(QUEUE))


# Verdicts


def test_accepting_leads_to_the_next(web, judgment):
    response = web.post(one(judgment), {"verdict": "accepted"})
    assert (response.status_code, response["Location"]) == (303, QUEUE)
    assert f"#{judgment.pk} accepted." in text(web.get(QUEUE))
    assert Review.objects.get().verdict == "accepted"


def test_a_correction_counts_instead(web, judgment, reviewer):
    sent = correction(-1)
    assert web.post(one(judgment), sent).status_code == 303
    assert web.post(one(judgment), sent).status_code == 303
    new = Judgment.objects.standing().get()
    assert (new.labeler, new.replaces, str(new.submission_id)) == (reviewer, judgment, sent["submission_id"])


def test_a_refused_correction_keeps_what_was_said(web, judgment):
    response = web.post(one(judgment), correction(9))
    assert (response.status_code, "Strength 9 is out of range" in text(response)) == (422, True)
    same = web.post(one(judgment), correction(2, rationale="<b>Clearer</b>."))
    assert (same.status_code, "Accept it, or change something first" in text(same)) == (422, True)
    assert not Review.objects.exists()


def test_a_return_reaches_the_labeler_with_the_comment(web, client, judgment, labeler):
    assert web.post(one(judgment), {"verdict": "returned", "comment": ""}).status_code == 422
    assert web.post(one(judgment), {"verdict": "returned", "comment": "The <i>source</i>?"}).status_code == 303
    client.force_login(labeler)
    page = client.get("/p/convincing/label/").content.decode()
    assert "The &lt;i&gt;source&lt;/i&gt;?" in page


def test_an_unknown_verdict_is_refused(web, judgment):
    assert web.post(one(judgment), {"verdict": "burned"}).status_code == 422


def test_what_was_replaced_meanwhile_leads_to_the_newer_one(web, project, labeler, judgment):
    newer = revise(
        project=project, labeler=labeler, judgment_id=judgment.pk, submission_id=uuid4(), answer=Answer(strength=3)
    )
    for sent in ({"verdict": "accepted"}, correction(-1), {"verdict": "returned", "comment": "Why?"}):
        response = web.post(one(judgment), sent)
        assert response.status_code == 409
        assert f"replaced by #{newer.pk}: look at the newer one" in text(response)
        assert one(newer) in response.content.decode()
        assert 'id="answer"' not in response.content.decode()


def test_the_second_reviewer_is_told_kindly(web, client, join, judgment):
    web.post(one(judgment), {"verdict": "accepted"})
    client.force_login(join("rob", role="reviewer"))
    response = client.post(one(judgment), correction(-1))
    assert (response.status_code, "Reviewed by rita: accepted." in text(response)) == (409, True)


# Afterwards


def test_a_corrected_judgment_offers_no_undo_and_says_why(web, client, judgment, labeler):
    web.post(one(judgment), correction(-1))
    client.force_login(labeler)
    page = client.get("/p/convincing/label/")
    assert f"A reviewer has corrected #{judgment.pk}" in text(page)
    assert f"Saved #{judgment.pk}" not in text(page)


def test_a_labeler_sees_what_reviewers_said_and_not_who(web, client, judgment, labeler):
    web.post(one(judgment), {"verdict": "returned", "comment": "Look again."})
    client.force_login(labeler)
    shown = text(client.get("/p/convincing/label/mine/"))
    assert "What reviewers said" in shown and "Look again." in shown
    assert "rita" not in shown


def test_the_history_counts_by_pseudonym(web, project, labeler, judgment):
    make_comparison(project)
    second = claim_and_answer(project, labeler)
    web.post(one(judgment), {"verdict": "accepted"})
    web.post(one(second), correction(-2))
    shown = text(web.get(HISTORY))
    assert f"labeler-{labeler.pk} 2 1 (50 %) 1 0" in shown
    assert labeler.username not in shown


def test_the_queue_is_in_the_navigation_of_those_who_may(web, client, judgment, labeler):
    assert f'href="{QUEUE}"' in web.get(QUEUE).content.decode()
    client.force_login(labeler)
    assert f'href="{QUEUE}"' not in client.get("/p/convincing/label/").content.decode()


def test_the_box_of_reasons_covers_nothing_until_it_is_opened(web, judgment):
    assert re.search(r'<details class="why" id="why">', web.get(QUEUE).content.decode())
