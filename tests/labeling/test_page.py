"""The labeling page over HTTP, as Django's test client sees it."""

import re
from datetime import timedelta
from html.parser import HTMLParser
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from labelapp.models import Judgment, Slot
from tests.factories import make_comparison, make_user

HTMX = {"HX-Request": "true"}
PAGE, UNDO, HEARTBEAT = "/p/convincing/label/", "/p/convincing/label/undo/", "/p/convincing/label/heartbeat/"


@pytest.fixture
def web(client, labeler, project):
    client.force_login(labeler)
    return client


def form_of(response):
    """The hidden fields of the answer form on a page."""
    fields = {}
    parser = HTMLParser()

    def start(tag, attributes):
        attributes = dict(attributes)
        if tag == "input" and attributes.get("type") == "hidden" and attributes.get("name") != "csrfmiddlewaretoken":
            fields[attributes["name"]] = attributes.get("value", "")

    parser.handle_starttag = start
    parser.feed(response.content.decode())
    return fields


def text(response):
    return " ".join(re.sub(r"<[^>]*>", " ", response.content.decode()).split())


def submit(web, form, **said):
    headers = said.pop("headers", None)
    return web.post(PAGE, form | (said or {"answer": "-1"}), headers=headers)


# Who may


@pytest.mark.parametrize(("method", "url"), [("get", PAGE), ("post", PAGE), ("post", UNDO), ("post", HEARTBEAT)])
class TestStrangers:
    def test_an_anonymous_visitor_is_sent_to_sign_in(self, client, project, method, url):
        response = getattr(client, method)(url)
        assert (response.status_code, response["Location"].split("?")[0]) == (302, "/accounts/login/")

    def test_a_person_from_outside_learns_nothing(self, client, project, method, url):
        client.force_login(make_user())
        assert getattr(client, method)(url).status_code == 404

    def test_a_researcher_may_not_label(self, client, join, method, url):
        client.force_login(join(role="researcher"))
        assert getattr(client, method)(url).status_code == 403


@pytest.mark.parametrize("url", [PAGE, UNDO, HEARTBEAT])
def test_a_post_without_the_token_is_refused(labeler, project, url):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(labeler)
    assert strict.post(url).status_code == 403


@pytest.mark.parametrize("url", [UNDO, HEARTBEAT])
def test_a_link_cannot_undo_or_hold_anything(web, url):
    assert web.get(url).status_code == 405


# Judging


def test_the_page_shows_prompt_and_both_responses_and_nothing_of_their_authors(web, project):
    comparison = make_comparison(project, "Because of *this*.", "Because of that.")
    comparison.completions.update(author="secret-model-7b")

    response = web.get(PAGE)

    page = response.content.decode()
    assert comparison.prompt.last_turn in text(response)
    assert "<em>this</em>" in page
    assert "Response A" in page and "Response B" in page
    assert "secret-model-7b" not in page
    assert "Judge the argument, not the opinion." in page
    assert "Guidelines v1" in page


def test_responses_stand_in_the_order_of_the_slot(web, project):
    comparison = make_comparison(project, "First in the table.", "Second in the table.")
    comparison.slots.update(display_order=[1, 0])
    page = web.get(PAGE).content.decode()
    assert page.index("Second in the table.") < page.index("First in the table.")


def test_nothing_is_chosen_for_the_labeler(web, project):
    make_comparison(project)
    assert " checked" not in web.get(PAGE).content.decode()


def test_without_script_a_submit_redirects_to_the_next_item(web, project, labeler):
    make_comparison(project), make_comparison(project)
    form = form_of(web.get(PAGE))

    response = submit(web, form, answer="-3", rationale=" clearer ")

    assert (response.status_code, response["Location"]) == (303, PAGE)
    judgment = Judgment.objects.get()
    assert (judgment.slot_id, judgment.labeler) == (int(form["slot"]), labeler)
    assert (abs(judgment.strength), judgment.rationale, judgment.active_seconds) == (3, "clearer", None)
    following = web.get(PAGE)
    assert f"Saved #{judgment.pk}" in text(following)
    assert "1 judged" in text(following)
    assert form_of(following)["slot"] != form["slot"]


def test_line_breaks_are_stored_as_they_were_typed(web, project):
    project.protocol_versions.create(number=2, definition={"rewrite": "optional"})
    make_comparison(project)
    submit(web, form_of(web.get(PAGE)), answer="1", rationale="a\r\nb", rewrite="c\r\n\r\nd")
    judgment = Judgment.objects.get(implied_by=None)
    assert (judgment.rationale, judgment.rewrite) == ("a\nb", "c\n\nd")


def test_for_htmx_the_answer_to_a_submit_is_the_section_with_the_next_item(web, project):
    make_comparison(project), make_comparison(project)
    form = form_of(web.get(PAGE))

    response = submit(web, form, answer="both_bad", active_seconds="12.5", headers=HTMX)

    page = response.content.decode()
    judgment = Judgment.objects.get()
    assert response.status_code == 200
    assert page.lstrip().startswith('<section id="comparison"') and page.rstrip().endswith("</section>")
    assert f'data-announce="Saved #{judgment.pk}."' in page
    assert form_of(response)["slot"] != form["slot"]
    assert (judgment.both_bad, judgment.active_seconds) == (True, 12.5)


def test_a_submit_with_the_next_item_costs_three_statements(
    web, project, django_assert_max_num_queries
):
    make_comparison(project), make_comparison(project)
    form = form_of(web.get(PAGE))
    submit(web, form, headers=HTMX)  # reads the protocol, once a process
    make_comparison(project)
    form = form_of(web.get(PAGE))
    # Session with its person; submit; claim with all that is shown.
    with django_assert_max_num_queries(3):
        assert submit(web, form, headers=HTMX).status_code == 200


def test_a_ranking_is_asked_where_there_are_more_than_two(web, project):
    comparison = make_comparison(project, "one", "two", "three", "four")
    comparison.slots.update(display_order=[3, 2, 1, 0])
    form = form_of(web.get(PAGE))
    submit(web, form, rank_0="2", rank_1="1", rank_2="2", rank_3="4")
    assert Judgment.objects.get().ranking == [[2], [1, 3], [0]]


def test_a_rank_that_is_missing_is_asked_for(web, project):
    make_comparison(project, "one", "two", "three")
    response = submit(web, form_of(web.get(PAGE)), rank_0="1", rank_1="", rank_2="2")
    assert response.status_code == 422
    assert "Give every response a rank" in text(response)


def test_an_answer_without_a_choice_keeps_what_was_written(web, project):
    make_comparison(project)
    response = submit(web, form_of(web.get(PAGE)), rationale="I wrote this")
    assert response.status_code == 422
    assert "Nothing is chosen yet" in text(response)
    assert "I wrote this" in text(response)
    assert not Judgment.objects.exists()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("answer", "9", "Strength 9 is out of range"),
        ("answer", "<b>", "is not an answer"),
        ("submission_id", "no-uuid", "submission id"),
        ("active_seconds", "-1", "active seconds"),
        ("rationale", "x" * 5001, "rationale"),
    ],
)
def test_a_wrong_field_is_named(web, project, field, value, says):
    make_comparison(project)
    response = web.post(PAGE, form_of(web.get(PAGE)) | {"answer": "1", field: value})
    assert response.status_code == 422
    assert says in text(response)


def test_a_double_submit_stores_one_judgment(web, project):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    assert [submit(web, form, headers=HTMX).status_code for _ in range(2)] == [200, 200]
    assert Judgment.objects.count() == 1


def test_a_submission_with_a_changed_body_is_422(web, project):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    submit(web, form, answer="1")
    response = submit(web, form, answer="2")
    assert response.status_code == 422
    assert "saved already with another answer" in text(response)


def test_a_second_tab_learns_that_the_item_is_judged(web, project):
    make_comparison(project)
    first, second = form_of(web.get(PAGE)), form_of(web.get(PAGE))
    assert first["slot"] == second["slot"] and first["submission_id"] != second["submission_id"]
    submit(web, first)
    response = submit(web, second)
    assert response.status_code == 409
    assert "You judged this one already" in text(response)


def test_an_item_handed_to_somebody_else_cannot_be_answered(web, project, join):
    make_comparison(project)
    other = Client()
    other.force_login(join())
    form = form_of(other.get(PAGE))
    response = submit(web, form)
    assert response.status_code == 422
    assert "not made for you" in text(response)
    assert not Judgment.objects.exists()


def test_a_claim_nobody_signed_is_refused(web, project):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    assert submit(web, form | {"claim": form["claim"] + "x"}).status_code == 422


def test_an_answer_after_somebody_else_took_the_item_is_kept_and_said_to_be_extra(web, project, join):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    Slot.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    other = Client()
    other.force_login(join())
    other.get(PAGE)
    response = submit(web, form, headers=HTMX)
    assert "as an extra answer" in text(response)
    assert Judgment.objects.get().surplus


# Undo


def test_undo_brings_the_item_back(web, project):
    make_comparison(project), make_comparison(project)
    form = form_of(web.get(PAGE))
    submit(web, form)
    web.get(PAGE)

    response = web.post(UNDO, headers=HTMX)

    assert form_of(response)["slot"] == form["slot"]
    assert "Undone" in response.content.decode()
    assert not Judgment.objects.standing().exists()


def test_undo_works_without_script(web, project):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    submit(web, form)
    assert web.post(UNDO).status_code == 303
    again = form_of(web.get(PAGE))
    assert again["slot"] == form["slot"]
    submit(web, again, answer="2")
    assert [j.withdrawn for j in Judgment.objects.order_by("pk")] == [False, True, False]


def test_there_is_no_undo_button_where_there_is_nothing_to_undo(web, project):
    make_comparison(project)
    assert 'id="undo"' not in web.get(PAGE, headers=HTMX).content.decode()
    assert web.post(UNDO).status_code == 409


# The lease and the empty queue


def test_a_heartbeat_says_whether_the_item_is_still_mine(web, project, join):
    make_comparison(project)
    form = form_of(web.get(PAGE))
    assert web.post(HEARTBEAT, form).status_code == 204
    Slot.objects.update(claim_token=uuid4())
    assert web.post(HEARTBEAT, form).status_code == 409
    assert web.post(HEARTBEAT, {"claim": "x"}).status_code == 422


def test_an_empty_queue_says_who_has_the_items_and_when_the_next_is_free(web, project, join):
    for _ in range(2):
        make_comparison(project)
        other = Client()
        other.force_login(join())
        other.get(PAGE)
    Slot.objects.filter(pk=Slot.objects.first().pk).update(lease_until=timezone.now() + timedelta(minutes=4))
    told = "2 items are with other labelers. Unless it is judged or kept, the next one is released in 4 min."
    assert told in text(web.get(PAGE))


def test_items_i_have_judged_are_not_counted_as_waiting(web, project, join):
    make_comparison(project, overlap=2)
    submit(web, form_of(web.get(PAGE)))
    other = Client()
    other.force_login(join())
    other.get(PAGE)
    assert "Nothing left. Thank you." in text(web.get(PAGE))


def test_a_project_without_comparisons_says_where_they_come_from(web):
    assert "once an admin has imported or sampled them" in text(web.get(PAGE))


def test_the_page_is_never_cached(web, project):
    make_comparison(project)
    assert "no-store" in web.get(PAGE)["Cache-Control"]
