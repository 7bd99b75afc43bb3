"""Reviews in a real browser: one key each, no script, a phone."""

import pytest
from playwright.sync_api import expect

from labelapp.models import Judgment, Review
from tests.browsers import sign_in, watched_page
from tests.factories import make_comparison, make_project, make_user
from tests.labeling.conftest import claim_and_answer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def visit(live_server):
    labeler, reviewer = make_user("lena"), make_user("rita")
    project = make_project("convincing", labeler=labeler, reviewer=reviewer)
    project.review_share = 1
    project.save()
    for _ in range(4):
        make_comparison(project)
        claim_and_answer(project, labeler, strength=2)

    def open_page(context):
        sign_in(context, live_server.url, reviewer)
        page = watched_page(context)
        page.goto(f"{live_server.url}/p/convincing/review/")
        return page

    return open_page


def test_with_keys_alone_one_is_passed_over_and_each_verdict_is_given(visit, context):
    page = visit(context)
    first = page.locator("#said").text_content()
    page.keyboard.press("p")
    page.wait_for_url("**past=*")
    page.keyboard.press("y")
    expect(page.get_by_role("status").first).to_contain_text("accepted.")
    page.keyboard.press("n")
    expect(page.locator("#comment")).to_be_focused()
    page.keyboard.type("Yes, no, pass: only letters here.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("returned to its labeler.")
    expect(page.get_by_role("radio", name="B better")).to_be_checked()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("corrected: your answer counts now.")
    assert Review.objects.get(verdict="returned").comment == "Yes, no, pass: only letters here."
    assert abs(Review.objects.get(verdict="corrected").correction.strength) == 3
    assert first and page.complaints == []


def test_enter_without_a_change_corrects_nothing(visit, context):
    page = visit(context)
    expect(page.get_by_role("radio", name="B better")).to_be_checked()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Accept it, or change something first.")
    assert not Review.objects.exists()


def test_ctrl_enter_in_the_comment_returns_the_judgment(visit, context):
    page = visit(context)
    page.keyboard.press("n")
    page.keyboard.type("Read B to its end.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status").first).to_contain_text("returned to its labeler.")
    assert Review.objects.get().comment == "Read B to its end."


def test_on_a_phone_the_answer_bar_comes_after_what_is_read(visit, new_context):
    page = visit(new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True))
    assert page.locator(".bar").evaluate("bar => getComputedStyle(bar).position") == "static"
    expect(page.locator("#accept kbd")).to_be_hidden()


def test_everything_works_without_script_on_a_phone(visit, new_context):
    page = visit(new_context(java_script_enabled=False, viewport={"width": 390, "height": 844}))
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_role("status").first).to_contain_text("accepted.")
    page.get_by_text("Return with a comment").click()
    page.get_by_label("What should the labeler look at again?").fill("The source.")
    page.get_by_role("button", name="Return", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("returned to its labeler.")
    page.get_by_label("A far better").check(force=True)
    page.get_by_role("button", name="Correct").click()
    expect(page.get_by_role("status").first).to_contain_text("corrected")
    assert Judgment.objects.count() == 5
