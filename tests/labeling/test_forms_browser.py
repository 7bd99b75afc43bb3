"""Every form of the protocol in a real browser, by keys, by touch, without script: what was chosen is stored."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labelapp.models import Comparison, Judgment, Prompt, ProtocolVersion, Skip, Slot
from tests.browsers import sign_in, watched_page
from tests.factories import make_comparison, make_project, make_prompt, make_user
from tests.labeling.forms import DEMONSTRATION, PAIR, PAIR_FULL, RANKING, RATING

pytestmark = pytest.mark.django_db(transaction=True)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SMILE = "\U0001f600"  # two UTF-16 units, one code point
LONG = "Tap water is **tested** far more often than what is sold in bottles. " * 12
LOOK = "const look = () => (box.scrollTop > 50 ? done() : requestAnimationFrame(look));"
CHAT = [
    {"role": "system", "content": "Be careful."},
    {"role": "user", "content": "Should bottles be banned?"},
    {"role": "assistant", "content": "There are arguments on both sides."},
    {"role": "user", "content": "Give the best one."},
]


@pytest.fixture
def labeler():
    return make_user("lena")


@pytest.fixture
def ask(labeler):
    """A project that asks about the texts under a definition."""

    def ask(definition, *texts, slug="forms", messages=None):
        project = make_project(slug, labeler=labeler)
        ProtocolVersion.objects.create(project=project, number=2, definition=definition)
        prompt = make_prompt(project, "Should bottles be banned?")
        if messages:
            Prompt.objects.filter(pk=prompt.pk).update(messages=messages)
        if texts:
            return make_comparison(project, *texts, prompt=prompt)
        made = Comparison.objects.create(
            project=project, prompt=prompt, protocol=project.protocol_versions.last(), content_hash="0" * 64
        )
        Slot.objects.create(comparison=made, project=project, number=0, shuffle_key=1, display_order=[])
        return made

    return ask


@pytest.fixture
def visit(live_server, labeler, new_context):
    """Open the labeling page signed in; complaints of the browser's console are collected on the page."""

    def visit(slug="forms", **options):
        context = new_context(**options)
        sign_in(context, live_server.url, labeler)
        page = watched_page(context)
        page.goto(f"{live_server.url}/p/{slug}/label/")
        return page

    return visit


def press(page, keys):
    for key in keys.split():
        page.keyboard.press(key)


def stored(page):
    """The one judgment, once the page says that it is saved."""
    expect(page.locator(".saved")).to_contain_text("Saved #")
    assert page.complaints == []
    return Judgment.objects.get(implied_by=None)


def select(page, selector, start, end):
    """Select characters of an element's first text, as a mouse would."""
    page.locator(selector).first.evaluate(
        """(box, [start, end]) => {
          const text = document.createTreeWalker(box, NodeFilter.SHOW_TEXT).nextNode();
          getSelection().setBaseAndExtent(text, start, text, end);
        }""",
        [start, end],
    )


def test_a_pair_with_criteria_first_is_answered_by_keys_alone(ask, visit):
    ask(PAIR_FULL, "First text.", "Second text.")
    page = visit()
    expect(page.get_by_label("Equal")).to_be_disabled()
    press(page, "3 1 j 1")  # A: helpful 3, makes things up, safe
    press(page, "0 j 2")  # B: helpful 0, no flag, unsafe
    expect(page.get_by_label("Equal")).to_be_enabled()
    press(page, "ArrowRight ArrowRight ArrowLeft")
    expect(page.get_by_label("B a shade better")).to_be_checked()
    press(page, "9 w")
    expect(page.locator("#rationale")).to_be_focused()
    page.keyboard.type("it has more")
    page.keyboard.press("Control+Enter")
    assert not Judgment.objects.exists()  # three words of four
    page.keyboard.type(" sense")
    expect(page.locator("#words")).to_have_text("4")
    page.keyboard.press("Control+Enter")
    judgment = stored(page)
    assert (judgment.strength, judgment.rationale) == (4, "it has more sense")
    assert judgment.ratings == {"helpful": [3, 0], "made_up": [1, 0], "rude": [0, 0]}
    assert judgment.safety == ["safe", "unsafe"]


def test_both_bad_opens_the_rewrite_that_starts_from_a_response(ask, visit):
    ask(PAIR | {"rewrite": "both_bad"}, "First text.", "Second\ntext.")
    page = visit()
    expect(page.locator("#rewrite")).to_be_hidden()
    press(page, "x")
    expect(page.locator("#rewrite-text")).to_be_visible()
    page.locator("[data-start='1']").click()
    expect(page.locator("#rewrite-text")).to_have_value("Second\ntext.")
    page.keyboard.type(" Better.")
    page.keyboard.press("Control+Enter")
    judgment = stored(page)
    assert (judgment.both_bad, judgment.rewrite, judgment.rewrite_of) == (True, "Second\ntext. Better.", 1)


def test_a_rewrite_is_not_sent_once_the_answer_is_another_one(ask, visit):
    ask(PAIR | {"rewrite": "both_bad"}, "First text.", "Second text.")
    page = visit()
    press(page, "x r")
    page.keyboard.type("Neither.")
    press(page, "Escape 3 Enter")
    assert (stored(page).strength, stored(page).rewrite) == (-1, "")


def test_a_ranking_takes_one_digit_a_response_with_ties_and_one_left_out(ask, visit):
    ask(RANKING, "one", "two", "three", "four")
    page = visit()
    assert page.locator(".rank input:checked").count() == 0
    press(page, "2 1 Enter")
    assert not Judgment.objects.exists()  # two have no rank yet
    press(page, "b j 2 0")
    expect(page.locator("#slots [data-rank='2'] span")).to_have_text("A = C")
    press(page, "Enter")
    judgment = stored(page)
    assert (judgment.ranking, judgment.unrankable) == ([[1], [0, 2]], [3])


def test_a_ranking_is_moved_by_arrows_and_dragged_by_the_mouse(ask, visit):
    ask(RANKING, "one", "two", "three")
    page = visit(viewport={"width": 1280, "height": 1000})
    page.get_by_role("button", name="Move A down one rank").click()
    page.get_by_role("button", name="Move A up one rank").click()
    press(page, "b ArrowUp")
    expect(page.locator("#slots")).to_contain_text("B")
    grip = page.locator("[data-grip='2']")
    with page.expect_response("**/ranking*.js"):
        grip.hover()
    box = page.locator("#slots [data-rank='3']").bounding_box()
    page.mouse.down()
    page.mouse.move(box["x"] + 10, box["y"] + 10, steps=4)
    page.mouse.up()
    expect(page.locator("#slots [data-rank='3'] span")).to_have_text("C")
    press(page, "Enter")
    assert stored(page).ranking == [[1], [0], [2]]


def test_on_a_phone_a_ranking_is_tapped(ask, visit):
    ask(RANKING | {"tie": False}, "one", "two", "three")
    page = visit(**PHONE)
    for place, rank in enumerate(("3", "1", "2")):
        pill = page.locator(f"#card-{place} .rank").get_by_label(rank, exact=True)
        assert pill.bounding_box()["height"] >= 44
        pill.tap()
    page.get_by_role("button", name="Submit").tap()
    assert stored(page).ranking == [[1], [2], [0]]


def test_on_a_phone_scales_flags_and_sliders_are_tapped(ask, visit):
    ask(RATING, "one", "two")
    page = visit(**PHONE)
    for letter, helpful, wordy in (("A", "4", "-1"), ("B", "0", "1")):
        card = page.get_by_role("article", name=f"Response {letter}")
        card.get_by_role("group", name="Helpfulness").get_by_role("radio", name=helpful, exact=True).tap()
        card.get_by_role("group", name="Verbosity").get_by_role("radio", name=wordy, exact=True).tap()
        card.get_by_role("radio", name="Unsafe").tap()
        slider = card.locator("[type=range]")
        expect(card.locator("[type=number]")).to_have_value("")
        slider.tap(position={"x": slider.bounding_box()["width"] / 2, "y": 20})
        expect(card.locator("[type=number]")).not_to_have_value("")
    page.get_by_role("article", name="Response B").get_by_label("Makes things up").tap()
    page.get_by_label("clear", exact=True).tap()
    expect(page.locator("#left")).to_have_text("8 / 8")
    page.get_by_role("button", name="Submit").tap()
    judgment = stored(page)
    fluent = judgment.ratings.pop("fluent")
    assert judgment.ratings == {"helpful": [4, 0], "wordy": [-1, 1], "made_up": [0, 1]}
    assert all(45 <= value <= 55 for value in fluent)
    assert (judgment.safety, judgment.reasons) == (["unsafe", "unsafe"], ["clear"])


def test_scales_and_sliders_are_answered_by_keys(ask, visit):
    ask(RATING, "one")
    page = visit()
    press(page, "4 2 7 3 j 1 j 1 w")  # helpful 4, wordy 0, fluent 73, a flag, safe
    page.keyboard.type("plain")
    page.keyboard.press("Control+Enter")
    judgment = stored(page)
    assert judgment.ratings == {"helpful": [4], "wordy": [0], "fluent": [73], "made_up": [1]}
    assert (judgment.safety, judgment.rationale) == (["safe"], "plain")


def test_a_demonstration_is_written_as_it_is(ask, visit):
    ask(DEMONSTRATION, messages=CHAT)
    page = visit()
    expect(page.locator(".turn")).to_have_count(3)
    press(page, "r")
    page.keyboard.type("Line one.")
    press(page, "Enter Enter")
    page.keyboard.type("Line two.")
    page.keyboard.press("Control+Enter")
    assert stored(page).rewrite == "Line one.\n\nLine two."


def test_text_is_marked_with_a_reason_and_marks_can_be_removed(ask, visit):
    ask(PAIR | {"span_reasons": ["wrong", "unsafe"]}, f"{SMILE} **One** is wrong.", "All fine here.")
    page = visit()
    press(page, "f")
    expect(page.locator("#problem")).to_contain_text("Select text in a response first")
    select(page, "#card-1 .text", 4, 8)
    press(page, "f")
    expect(page.get_by_role("dialog")).to_be_visible()
    press(page, "2")
    expect(page.locator("[data-marks='1'] li")).to_contain_text("unsafe")
    press(page, "m")
    select(page, "#card-0 .raw", 3, 10)  # counted in UTF-16
    page.locator("[data-flag='0']").click()
    page.get_by_role("button", name="wrong").click()
    select(page, "#card-1 .raw", 0, 3)
    press(page, "f 1")  # the menu is loaded by now, and there at once
    page.locator("[data-marks='1']").get_by_role("button", name="wrong").click()
    expect(page.locator(".marks li")).to_have_count(2)
    press(page, "1 Enter")
    assert stored(page).spans == [
        {"position": 1, "start": 4, "end": 8, "quote": "fine", "reason": "unsafe"},
        {"position": 0, "start": 2, "end": 9, "quote": "**One**", "reason": "wrong"},
    ]


def test_an_item_is_skipped_with_a_reason_by_three_keys(ask, visit):
    ask(PAIR, "one", "two")
    page = visit()
    press(page, "u 3")
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_contain_text("Skipped")
    assert Skip.objects.get().reason == Skip.Reason.values[2]
    assert not Judgment.objects.exists()


def test_single_keys_can_be_switched_off_and_stay_off(ask, visit):
    ask(PAIR, "one", "two")
    page = visit()
    press(page, "?")
    page.get_by_role("switch").click()
    page.reload()
    press(page, "1 x t w ?")
    assert page.locator("input:checked").count() == 0
    page.get_by_label("A better").check(force=True)
    page.get_by_role("button", name="Keys").click()
    page.get_by_role("switch").click()
    press(page, "Escape 7")
    expect(page.get_by_label("B far better")).to_be_checked()
    page.keyboard.press("Control+Enter")
    assert stored(page).strength == 3


def test_the_sheet_lists_only_the_keys_that_this_form_has(ask, visit):
    def listed(slug):
        page = visit(slug)
        page.keyboard.press("?")
        return [row.inner_text() for row in page.locator("#keys tr:visible kbd:first-child").all()]

    ask(PAIR | {"tie": False, "both_bad": False, "rationale": "off"}, "one", "two", slug="plain")
    ask(RANKING | {"rewrite": "optional", "span_reasons": ["wrong"]}, "one", "two", "three", slug="many")
    plain, many = listed("plain"), listed("many")
    assert {"1", "D", "S", "A"} <= set(plain) and not {"T", "X", "W", "R", "F", "J"} & set(plain)
    assert {"X", "J", "R", "F", "M"} <= set(many) and not {"1", "D", "S", "T"} & set(many)


def test_the_responses_are_compared_word_by_word_shown_raw_and_scrolled_together(ask, visit):
    ask(PAIR, LONG * 3 + "One more.", LONG.replace("far", "much") * 3 + f"{SMILE} Two more.")
    page = visit(viewport={"width": 1280, "height": 700})
    assert page.locator(".raw").first.text_content() == LONG * 3 + "One more."
    press(page, "d")
    expect(page.locator("#card-1 .words mark").first).to_have_text("much")
    expect(page.locator("#card-0 .words mark").last).to_have_text("One")
    assert page.locator("#card-1 .words").text_content() == page.locator("#card-1 .raw").text_content()
    press(page, "m")
    expect(page.locator("#card-0 .words")).to_be_hidden()
    expect(page.locator("#card-0 .raw")).to_be_visible()
    press(page, "m s")
    bodies = page.locator(".body")
    expect(bodies.first).to_have_attribute("tabindex", "0")
    assert bodies.first.bounding_box()["height"] == bodies.last.bounding_box()["height"]
    bodies.first.evaluate("box => { box.scrollTop = 10000; }")
    bodies.last.evaluate(f"box => new Promise(done => {{ {LOOK} look(); }})")
    assert Axe().run(page).violations_count == 0
    page.locator("#fold").click()
    expect(page.locator("#asked")).to_be_hidden()
    assert page.complaints == []


def test_the_first_load_is_six_requests_and_nothing_rare_is_among_them(ask, visit, new_context, live_server):
    ask(PAIR, "one", "two")
    asked = []
    page = visit()
    page.on("request", lambda request: asked.append(request.url))
    page.reload(wait_until="networkidle")
    assert len([url for url in asked if "djdt" not in url]) <= 6
    assert not [url for url in asked if "columns" in url or "spans" in url or "ranking" in url or "icon" in url]


@pytest.mark.parametrize("width", [1280, 390])
def test_from_two_to_nine_steps_each_stand_in_one_row(ask, visit, width):
    for most in (1, 2, 3, 4):
        for tie in (True, False):
            slug = f"steps-{most}-{tie}".lower()
            ask(PAIR | {"max_strength": most, "tie": tie}, "one", "two", slug=slug)
            page = visit(slug, viewport={"width": width, "height": 844})
            boxes = [pill.bounding_box() for pill in page.locator(".steps .pill").all()]
            assert len(boxes) == 2 * most + tie
            assert len({box["y"] for box in boxes}) == 1
            assert all(box["height"] >= 44 and box["width"] >= 36 for box in boxes)
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
            page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_form_and_nothing_flows_over(ask, visit, scheme):
    ask(PAIR_FULL, LONG, "two", slug="full", messages=CHAT)
    ask(RANKING, *[f"{number} {LONG}" for number in range(9)], slug="ranking")
    ask(RATING, LONG, "two", slug="rating")
    ask(DEMONSTRATION, slug="demonstration", messages=CHAT)
    for slug in ("full", "ranking", "rating", "demonstration"):
        for width, height in ((1280, 860), (390, 844), (640, 430)):  # the last is 1280 at 200 % zoom
            page = visit(slug, color_scheme=scheme, viewport={"width": width, "height": height})
            press(page, "1 2 w Escape u" if slug != "demonstration" else "u")
            found = Axe().run(page)
            assert found.violations_count == 0, (slug, width, found.generate_report())
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (slug, width)
            assert page.complaints == []
            page.context.close()


def test_right_to_left_text_runs_from_the_right_and_its_code_from_the_left(ask, visit):
    ask(PAIR, "نعم، لأن `code` مفيد.\n\n```\nx = 1\n```", "כן, כי זה מועיל.\n\nBut this is English.")
    page = visit()

    def aligned(selector):
        return page.locator(selector).first.evaluate("box => getComputedStyle(box).direction")

    assert aligned("#card-0 .text") == aligned("#card-1 .text") == aligned("#card-0 .raw") == "rtl"
    assert aligned("#card-0 .text pre") == "ltr"


def test_a_ranking_and_a_rating_work_without_script(ask, visit):
    ask(RANKING | {"both_bad": False}, "one", "two", "three", slug="ranking")
    ask(RATING, "one", slug="rating")
    page = visit("ranking", java_script_enabled=False)
    expect(page.locator(".slots, .tools, .grip, .moves").first).to_be_hidden()
    page.locator("#card-0").get_by_label("2", exact=True).check(force=True)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("Give every response a rank")
    page.complaints.clear()  # of the 422
    expect(page.locator("#card-0").get_by_label("2", exact=True)).to_be_checked()
    page.locator("#card-1").get_by_label("1", exact=True).check(force=True)
    page.locator("#card-2").get_by_role("radio", name="Cannot be ranked").check(force=True)
    page.get_by_role("button", name="Submit").click()
    judgment = stored(page)
    assert (judgment.ranking, judgment.unrankable) == ([[1], [0]], [2])

    page = visit("rating", java_script_enabled=False)
    page.get_by_role("group", name="Helpfulness").get_by_label("2", exact=True).check(force=True)
    page.get_by_role("group", name="Verbosity").get_by_role("radio", name="0", exact=True).check(force=True)
    page.get_by_role("spinbutton").fill("12")
    page.get_by_role("radio", name="Safe", exact=True).check(force=True)
    page.locator("#rationale").fill("plain")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.latest("pk").ratings["fluent"] == [12]
