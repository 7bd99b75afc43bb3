"""Live chat in a real browser, on a real server with a real upstream: keys, streams, votes, failures, phones."""

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labelapp.models import ChatTurn, Comparison, Judgment
from tests.browsers import sign_in, watched_page
from tests.chat.conftest import SLIDERS, add_model, ask_under
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 30_000  # ms
LONG = "Tea keeps you **awake**, warm and in company. Coffee does one of the three. "


@pytest.fixture
def visit(web_server, labeler, project):
    """Open the chat signed in; complaints of the browser's console are collected on the page."""
    address = web_server(UPSTREAM_SECONDS="5")

    def open_page(context):
        context.set_default_timeout(PATIENCE)
        sign_in(context, address, labeler)
        page = watched_page(context)
        page.goto(f"{address}/p/{project.slug}/chat/")
        return page

    expect.set_options(timeout=PATIENCE)
    return open_page


def ask(page, text: str) -> None:
    expect(page.locator("#prompt-text")).to_be_focused()
    page.keyboard.type(text)
    page.keyboard.press("Control+Enter")
    expect(page.locator(".response")).not_to_have_count(0)


def finished(page, count: int = 2) -> None:
    expect(page.locator(".response:not([aria-busy])")).to_have_count(count)


def keep_picture(page, name: str) -> None:
    """For a person to look at, where CHAT_PICTURES names a folder."""
    if folder := os.environ.get("CHAT_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def test_a_conversation_of_three_turns_by_keyboard(visit, context, upstream):
    page = visit(context)
    ask(page, "Argue for tea.")
    finished(page)
    expect(page.locator("#chat-title")).to_be_focused()
    page.keyboard.press("2")
    page.keyboard.press("Enter")

    ask(page, "Shorter, please.")
    expect(page.locator(".talk li")).to_have_count(2)
    finished(page)
    page.keyboard.press("b")
    expect(page.locator("#response-B")).to_be_focused()
    page.keyboard.press("6")
    page.keyboard.press("w")
    page.keyboard.type("Shorter indeed.")
    page.keyboard.press("Control+Enter")

    ask(page, "And for coffee?")
    finished(page)
    page.keyboard.press("t")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Go on with A")).to_be_visible()
    page.keyboard.press("a")
    expect(page.locator(".talk li")).to_have_count(6)
    expect(page.locator("#chat-title")).to_have_text("Go on: turn 4 of 8")
    assert "lion" not in page.content() and "raven" not in page.content()

    page.get_by_role("button", name="End this conversation").click()
    expect(page.get_by_role("heading", name="This conversation has ended")).to_be_visible()
    expect(page.get_by_text("lion")).not_to_have_count(0)
    assert page.locator(".chosen").count() == 3
    judgments = list(Judgment.objects.order_by("pk"))
    assert [abs(judgment.strength) for judgment in judgments] == [2, 2, 0]
    assert judgments[1].rationale == "Shorter indeed." and all(j.active_seconds is not None for j in judgments)
    assert [len(c.prompt.messages) for c in Comparison.objects.order_by("pk")] == [1, 3, 5]
    assert page.complaints == []


def test_a_vote_before_the_end_counts_what_was_on_screen(visit, context, upstream):
    for name in ("lion", "raven"):
        upstream.chunks[name] = (f"**{name[0]}** says the first words here. ", "Never shown.")
        upstream.gate(name)
    page = visit(context)
    ask(page, "Argue for tea.")
    expect(page.locator(".response .streaming", has_text="says the first words")).to_have_count(2)
    shown = page.locator(".response [data-text]").all_text_contents()
    assert all(text.startswith("**") for text in shown), "unfinished text is shown as it is"
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("#prompt-text")).to_be_focused()
    sides = ChatTurn.objects.get().sides.all()
    assert [side.text for side in sides] == shown
    assert [side.completion.text for side in sides] == shown
    wait_until(lambda: len(upstream.hung_up) == 2, what="hanging up on both models")
    assert page.complaints == []


def test_a_failure_is_said_and_the_prompt_is_answered_by_another_try(visit, context, upstream):
    upstream.trouble = {"lion": "fail"}
    page = visit(context)
    ask_and_fail(page)
    keep_picture(page, "failed")
    upstream.trouble.clear()
    page.keyboard.press("Enter")  # the button to try again has the focus
    finished(page)
    assert ChatTurn.objects.get().attempt == 2


def ask_and_fail(page):
    page.keyboard.type("Argue for tea.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".failed-turn")).to_contain_text("refused to answer")
    expect(page.locator(".failed-turn")).to_contain_text("Your prompt is kept")
    expect(page.locator(".prompt .text")).to_have_text("Argue for tea.")
    expect(page.locator("#again")).to_be_focused()


def test_a_prompt_is_kept_over_a_reload_and_a_lost_connection(visit, context):
    page = visit(context)
    page.keyboard.type("A thought that took an hour.")
    page.reload()
    expect(page.locator("#prompt-text")).to_have_value("A thought that took an hour.")
    context.set_offline(True)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#problem")).to_contain_text("Not sent: no connection")
    context.set_offline(False)
    page.keyboard.press("Control+Enter")
    finished(page)
    assert ChatTurn.objects.count() == 1
    page.get_by_role("button", name="End this conversation").click()
    page.get_by_role("link", name="Begin another").click()
    expect(page.locator("#prompt-text")).to_have_value("")


def test_two_tabs_show_one_conversation_and_the_second_vote_changes_nothing(visit, context, upstream):
    go_on = [upstream.gate(name) for name in ("lion", "raven")]
    page = visit(context)
    ask(page, "Argue for tea.")
    tab = visit(context)
    expect(tab.locator(".response")).to_have_count(2)
    for go in go_on:
        go()
    finished(page)
    finished(tab)
    tab.bring_to_front()
    tab.keyboard.press("1")
    tab.keyboard.press("Enter")
    expect(tab.locator("#prompt-text")).to_be_visible()
    page.bring_to_front()
    page.keyboard.press("7")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("You judged this one already")
    expect(page.locator("#prompt-text")).to_be_visible()
    assert Judgment.objects.count() == 1 and len(upstream.asked) == 2


def test_sliders_say_nothing_until_they_are_moved(visit, context, project, upstream):
    ask_under(project, SLIDERS)
    for name in ("wolf", "hare"):
        add_model(project, upstream, name)
    page = visit(context)
    ask(page, "Argue for tea.")
    finished(page, 4)
    page.locator("input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("How good?")
    expect(page.locator("output").first).to_have_text("51")
    expect(page.locator("output").last).to_have_text("not rated yet")
    for number, slider in enumerate(page.locator("input[type=range]").all()):
        slider.focus()
        if number == 0:
            continue  # what was said before the refusal is kept
        for _ in range(1 + number):
            page.keyboard.press("ArrowRight")
    keep_picture(page, "sliders")
    page.keyboard.press("Enter")
    expect(page.locator("#prompt-text")).to_be_focused()
    turn = ChatTurn.objects.get()
    by_place = [turn.judgment.ratings["good"][position] for position in turn.slot.display_order]
    assert by_place == [51, 52, 53, 54] and turn.continued == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_flows_over(visit, new_context, upstream, scheme, width):
    upstream.chunks = {"lion": (LONG * 3, "I am Cla", "ude."), "raven": ("Short ", "and sweet.")}
    page = visit(new_context(color_scheme=scheme, viewport={"width": width, "height": 844}))
    look(page, f"ask-{width}-{scheme}")
    ask(page, "Argue for tea, in a long and winding sentence that needs more than one line on a phone.")
    finished(page)
    page.keyboard.press("2")
    look(page, f"answers-{width}-{scheme}")
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    expect(page.locator("#go-on")).to_be_visible()
    look(page, f"go-on-{width}-{scheme}")
    page.keyboard.press("a")
    expect(page.locator("#prompt-text")).to_be_visible()
    page.get_by_role("button", name="End this conversation").click()
    expect(page.get_by_role("heading", name="This conversation has ended")).to_be_visible()
    look(page, f"past-{width}-{scheme}")
    assert page.complaints == []


def test_sliders_on_a_phone_stand_under_their_letters(visit, new_context, project):
    ask_under(project, SLIDERS)
    page = visit(new_context(color_scheme="dark", viewport={"width": 390, "height": 844}, has_touch=True))
    ask(page, "Argue for tea.")
    finished(page)
    look(page, "sliders-390-dark")
    assert page.locator(".criteria-of").count() == 2


def test_the_keys_of_one_letter_can_be_switched_off(visit, context):
    page = visit(context)
    ask(page, "Argue for tea.")
    finished(page)
    page.keyboard.press("?")
    page.get_by_role("switch").click()
    expect(page.get_by_role("switch")).to_have_attribute("aria-checked", "false")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    assert page.locator("input:checked").count() == 0


def look(page, name: str) -> None:
    keep_picture(page, name)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name


def test_what_models_and_labelers_write_is_never_markup(visit, context, upstream):
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script> "
    for number, name in enumerate(("lion", "raven")):
        upstream.chunks[name] = (evil, f"and [{number}](javascript:alert(3))")
    page = visit(context)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    ask(page, evil)
    finished(page)
    assert page.locator("#chat img, #chat script, #chat a[href^=javascript]").count() == 0
    expect(page.locator(".response", has_text="<img src=x")).to_have_count(2)
    assert page.complaints == []
