"""The labeling page in a real browser: keys, focus, accessibility, content security, no script, a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labelapp.models import Judgment
from tests.browsers import sign_in, watched_page
from tests.factories import make_comparison, make_project, make_prompt, make_user

pytestmark = pytest.mark.django_db(transaction=True)
LONG = "Bottled water is **tested** less often than tap water, and `1 in 4` bottles is recycled. " * 6


@pytest.fixture
def labeler():
    return make_user("lena")


@pytest.fixture
def project(labeler):
    project = make_project("convincing", labeler=labeler)
    for number in range(3):
        prompt = make_prompt(project, f"Argue that bottle number {number} should be banned.")
        make_comparison(project, LONG, f"Because of reason {number}.", prompt=prompt)
    return project


@pytest.fixture
def visit(live_server, labeler, project):
    """Open the labeling page signed in; complaints of the browser's console are collected on the page."""

    def open_page(context):
        sign_in(context, live_server.url, labeler)
        page = watched_page(context)
        page.goto(f"{live_server.url}/p/convincing/label/")
        return page

    return open_page


def test_two_items_are_judged_with_two_keys_each_and_the_last_is_undone(visit, context):
    page = visit(context)
    assert page.locator("input:checked").count() == 0
    first = page.locator("#asked").inner_text()

    page.keyboard.press("2")
    expect(page.get_by_label("A better")).to_be_checked()
    page.keyboard.press("Enter")
    expect(page.locator(".judged")).to_have_text("1 judged")

    judgment = Judgment.objects.get()
    assert abs(judgment.strength) == 2
    assert judgment.active_seconds is not None
    expect(page.locator("#prompt")).to_be_focused()
    expect(page.locator("#live")).to_have_text(f"Saved #{judgment.pk}.")
    expect(page.locator(".saved")).to_have_text(f"Saved #{judgment.pk}")
    assert page.locator("input:checked").count() == 0
    second = page.locator("#asked").inner_text()
    assert second != first

    page.keyboard.press("t")
    page.keyboard.press("Enter")
    expect(page.locator(".judged")).to_have_text("2 judged")
    assert Judgment.objects.latest("pk").strength == 0

    page.keyboard.press("z")
    expect(page.locator("#asked")).to_have_text(second)
    expect(page.locator(".judged")).to_have_text("1 judged")
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    expect(page.locator(".judged")).to_have_text("2 judged")
    assert Judgment.objects.standing().latest("pk").both_bad
    assert [j.withdrawn for j in Judgment.objects.order_by("pk")] == [False, False, True, False]
    assert page.complaints == []


def test_keys_are_letters_inside_the_rationale_and_enter_alone_sends_nothing(visit, context):
    page = visit(context)
    page.keyboard.press("6")
    page.keyboard.press("w")
    expect(page.locator("#rationale")).to_be_focused()
    page.keyboard.type("xz1 wt?")
    page.keyboard.press("Enter")
    expect(page.locator("#rationale")).to_have_value("xz1 wt?\n")
    expect(page.get_by_label("B better")).to_be_checked()
    assert not Judgment.objects.exists()

    page.keyboard.press("Control+Enter")
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.get().rationale == "xz1 wt?"


def test_a_box_that_opens_over_the_bar_is_not_covered_by_the_toast(visit, context):
    page = visit(context)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_be_visible()
    toast, bar = (page.locator(name).bounding_box() for name in ("#toast", ".bar"))
    assert toast["y"] + toast["height"] < bar["y"]
    page.keyboard.press("u")
    expect(page.locator("#skip")).to_be_visible()
    expect(page.locator("#toast")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#toast")).to_be_visible()


def test_enter_without_a_choice_sends_nothing(visit, context):
    page = visit(context)
    page.keyboard.press("Enter")
    page.keyboard.press("z")
    expect(page.locator(".judged")).to_have_text("0 judged")
    assert page.locator("input[value='-3']").evaluate("radio => radio.validity.valueMissing")
    assert not Judgment.objects.exists()


def test_the_browser_makes_the_submission_id(visit, context):
    page = visit(context)
    served = page.evaluate("fetch(location.href).then(reply => reply.text())")
    shown = page.locator("[name=submission_id]").input_value()
    assert len(shown) == 36 and shown not in served
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert str(Judgment.objects.get().submission_id) == shown


def test_a_refusal_is_shown_and_the_next_item_comes_with_it(visit, context):
    page, tab = visit(context), visit(context)
    for one in (page, tab):
        one.keyboard.press("1")
        one.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_contain_text("You judged this one already")
    assert Judgment.objects.count() == 1


def test_the_sheet_of_keys_opens_and_closes(visit, context):
    page = visit(context)
    page.keyboard.press("?")
    sheet = page.get_by_role("dialog", name="Keys")
    expect(sheet).to_be_visible()
    page.keyboard.press("1")
    assert page.locator("input:checked").count() == 0
    page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_flows_over(visit, new_context, scheme, width):
    page = visit(new_context(color_scheme=scheme, viewport={"width": width, "height": 844}))
    page.keyboard.press("2")
    page.keyboard.press("g")
    page.keyboard.press("w")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.complaints == []


def test_on_a_phone_the_seven_steps_stand_in_one_row_for_a_thumb(visit, new_context):
    page = visit(new_context(viewport={"width": 390, "height": 844}, has_touch=True))
    boxes = [pill.bounding_box() for pill in page.locator(".steps .pill").all()]
    assert len(boxes) == 7
    assert len({box["y"] for box in boxes}) == 1
    assert all(box["height"] >= 44 and box["width"] >= 40 for box in boxes)
    page.get_by_label("B far better").tap()
    page.get_by_role("button", name="Submit").tap()
    expect(page.locator(".judged")).to_have_text("1 judged")


def test_at_four_hundred_percent_zoom_nothing_flows_over_and_the_bar_covers_nothing(visit, new_context):
    page = visit(new_context(viewport={"width": 320, "height": 256}))
    assert page.locator(".bar").bounding_box()["y"] > page.locator(".response").last.bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_everything_works_without_script(visit, new_context):
    page = visit(new_context(java_script_enabled=False))
    page.get_by_label("A far better").check(force=True)
    page.get_by_text("Why?", exact=False).first.click()
    page.locator("#rationale").fill("No script needed.")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.get().rationale == "No script needed."

    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".judged")).to_have_text("0 judged")
    page.get_by_label("Equal").check(force=True)
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.standing().get().strength == 0
