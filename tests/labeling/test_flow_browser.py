"""What a labeler sees while answers travel: offline, broken servers, two tabs, reloads, drafts, undo, consent."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labelapp.models import (
    ConsentVersion,
    Draft,
    GuidelineVersion,
    Judgment,
    Membership,
    Project,
    ProtocolVersion,
    Slot,
)
from tests.browsers import sign_in, watched_page
from tests.factories import add_member, make_comparison, make_project, make_prompt, make_user

pytestmark = pytest.mark.django_db(transaction=True)
LONG = "Bottled water is **tested** less often than tap water, and `1 in 4` bottles is recycled.\n\n" * 12
PATH = "/p/convincing/label/"


@pytest.fixture
def labeler():
    return make_user("lena")


@pytest.fixture
def project(labeler):
    project = make_project("convincing", labeler=labeler)
    for number in range(5):
        prompt = make_prompt(project, f"Argue that bottle number {number} should be banned.")
        make_comparison(project, f"Because of reason {number}.", f"Since {number} is enough.", prompt=prompt)
    return project


@pytest.fixture
def visit(live_server, labeler, project):
    """Open the labeling page signed in; complaints of the browser's console are collected on the page."""

    def open_page(context, user=labeler):
        sign_in(context, live_server.url, user)
        page = watched_page(context)
        page.goto(live_server.url + PATH)
        return page

    return open_page


def until(page, expression):
    """Wait for what no locator sees: the content policy forbids Playwright's own way of waiting."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"never came true: {expression}")


def ready(page):
    """Wait until the next item is here ahead of time."""
    until(page, "document.getElementById('ahead').content.children.length > 0")


def asked(page):
    return page.locator("#asked").inner_text()


def say(page, key="2"):
    page.keyboard.press(key)
    page.keyboard.press("Enter")


def alert(page):
    return page.locator("#kept")


def test_the_next_item_is_there_before_the_server_has_answered(visit, context):
    page = visit(context)
    ready(page)
    first = asked(page)
    held = []
    page.route(f"**{PATH}", lambda route: held.append(route) if route.request.method == "POST" else route.continue_())
    say(page)
    expect(page.locator("#asked")).not_to_have_text(first)
    expect(page.locator(".saved")).to_have_text("Kept here, not saved yet")
    expect(page.locator("#live")).to_have_text("")
    assert not Judgment.objects.exists()
    held[0].continue_()
    expect(page.locator(".saved")).to_have_text(re.compile(r"Saved #\d+"))
    judgment = Judgment.objects.get()
    expect(page.locator("#live")).to_have_text(f"Saved #{judgment.pk}.")
    expect(page.locator("#toast")).to_contain_text(f"Saved #{judgment.pk}.")
    expect(page.locator("#progress")).to_contain_text("1 today")
    assert page.complaints == []


def test_two_answers_given_offline_are_both_stored_once_when_the_connection_is_back(visit, context):
    page = visit(context)
    ready(page)
    context.set_offline(True)
    first = asked(page)
    say(page, "1")
    expect(page.locator("#asked")).not_to_have_text(first)
    expect(alert(page)).to_contain_text("1 answer is kept here. No connection")
    say(page, "7")
    expect(page.get_by_role("heading", name="Waiting for the server")).to_be_visible()
    expect(alert(page)).to_contain_text("2 answers are kept here.")
    assert not Judgment.objects.exists()

    context.set_offline(False)
    expect(page.locator(".judged")).to_have_text("2 judged")
    expect(alert(page)).to_be_hidden()
    assert sorted(abs(judgment.strength) for judgment in Judgment.objects.all()) == [3, 3]
    assert page.evaluate("Object.keys(localStorage).filter(key => key.includes(':answer:')).length") == 0
    expect(page.locator("#answer")).to_be_visible()


def test_a_failing_server_is_asked_again_under_the_same_submission_id(visit, context):
    page = visit(context)
    ready(page)
    sent = []

    def fail_twice(route):
        if route.request.method != "POST":
            return route.continue_()
        sent.append(re.search(r'name="submission_id"\s+([0-9a-f-]{36})', route.request.post_data)[1])
        return route.fulfill(status=500, body="broken") if len(sent) < 3 else route.continue_()

    page.route(f"**{PATH}", fail_twice)
    page.clock.install()
    say(page)
    expect(alert(page)).to_contain_text("1 answer is kept here.")
    expect(page.locator(".judged")).to_have_text("0 judged")
    for _ in range(4):
        page.clock.run_for(5000)
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert len(set(sent)) == 1 and len(sent) == 3
    assert str(Judgment.objects.get().submission_id) == sent[0]


def test_an_answer_whose_reply_was_lost_is_not_stored_twice(visit, context):
    page = visit(context)
    ready(page)
    lost = []

    def lose(route):
        if route.request.method == "POST" and not lost:
            lost.append(route.fetch())
            return route.abort()
        return route.continue_()

    page.route(f"**{PATH}", lose)
    say(page)
    expect(page.locator(".judged")).to_have_text("1 judged", timeout=15000)
    assert lost[0].status == 200
    assert Judgment.objects.count() == 1


def test_a_reload_sends_what_was_not_sent(visit, context):
    page = visit(context)
    page.route(f"**{PATH}", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    ready(page)
    say(page)
    expect(alert(page)).to_contain_text("1 answer is kept here.")
    page.unroute(f"**{PATH}")
    page.reload()
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.count() == 1
    expect(page.locator("#answer")).to_be_visible()


def test_a_closed_tab_loses_nothing_and_the_item_is_not_shown_again(visit, context):
    page = visit(context)
    page.route(f"**{PATH}", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    first = asked(page)
    say(page)
    expect(alert(page)).to_contain_text("1 answer is kept here.")
    page.close()
    again = visit(context)
    expect(again.locator(".judged")).to_have_text("1 judged")
    expect(again.locator("#asked")).not_to_have_text(first)
    assert Judgment.objects.count() == 1


def test_an_answer_is_never_sent_as_somebody_else(visit, context, live_server, project, labeler):
    page = visit(context)
    ready(page)
    other = make_user("otto")
    add_member(project, other, "labeler")
    sign_in(context, live_server.url, other)
    say(page)
    expect(alert(page)).to_contain_text("somebody else is signed in now")
    fresh = visit(context, user=other)
    ready(fresh)
    expect(alert(fresh)).to_be_hidden()
    assert not Judgment.objects.exists()
    back = visit(context)
    expect(back.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.get().labeler == labeler


def test_whoever_is_signed_out_keeps_the_answer_and_it_is_sent_after_signing_in(visit, context, live_server, labeler):
    page = visit(context)
    ready(page)
    context.clear_cookies()
    page.clock.install()
    say(page)
    expect(alert(page)).to_contain_text("Not saved: you are signed out")
    sign_in(context, live_server.url, labeler)
    for _ in range(4):
        page.clock.run_for(10000)
    expect(page.locator(".judged")).to_have_text("1 judged")
    expect(alert(page)).to_be_hidden()
    assert Judgment.objects.count() == 1


def test_a_refused_answer_says_why_and_leads_back_to_its_item(visit, context):
    page = visit(context)
    ready(page)
    first, written = asked(page), "Because I say so."
    page.keyboard.press("w")
    page.locator("#rationale").fill(written)
    page.evaluate("document.querySelector('#answer [value=\"-1\"]').checked = true")
    page.evaluate("document.querySelector('#answer [value=\"-1\"]').value = '9'")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#asked")).not_to_have_text(first)
    second = asked(page)
    refused = page.locator("#refused p")
    expect(refused).to_contain_text("Strength 9 is out of range")
    refused.get_by_role("button", name="Back to this item").click()
    expect(page.locator("#asked")).to_have_text(first)
    expect(page.locator("#rationale")).to_have_value(written)
    expect(refused).to_have_count(0)
    page.keyboard.press("Escape")
    say(page, "1")
    expect(page.locator("#asked")).to_have_text(second)
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.get().rationale == written


def test_two_tabs_on_one_item_make_one_judgment(visit, context):
    page, tab = visit(context), visit(context)
    first = asked(page)
    assert asked(tab) == first
    for one in (page, tab):
        ready(one)
        say(one)
    expect(tab.locator("#refused p")).to_contain_text("You judged this one already")
    tab.get_by_role("button", name="Drop this answer").click()
    expect(tab.locator("#refused p")).to_have_count(0)
    assert Judgment.objects.count() == 1


@pytest.mark.parametrize("ahead", [True, False])
def test_a_double_click_or_enter_twice_is_one_judgment(visit, context, ahead):
    page = visit(context)
    ready(page)
    if not ahead:
        page.evaluate("document.getElementById('ahead').content.replaceChildren()")
    page.keyboard.press("3")
    page.get_by_role("button", name="Submit").dblclick()
    expect(page.locator(".judged")).to_have_text("1 judged")
    ready(page)
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator(".judged")).to_have_text("2 judged")
    assert Judgment.objects.count() == 2


def test_the_back_button_leads_to_no_second_judgment(visit, context, live_server):
    page = visit(context)
    ready(page)
    first = asked(page)
    say(page)
    expect(page.locator(".judged")).to_have_text("1 judged")
    page.goto(live_server.url + PATH + "guidelines/")
    page.go_back()
    expect(page.locator("#answer")).to_be_visible()
    expect(page.locator("#asked")).not_to_have_text(first)
    say(page)
    expect(page.locator(".judged")).to_have_text("2 judged")
    assert Judgment.objects.values("comparison").distinct().count() == 2


def test_without_anything_ahead_the_item_waits_on_screen(visit, context):
    page = visit(context)
    ready(page)
    page.evaluate("document.getElementById('ahead').content.replaceChildren()")
    first = asked(page)
    say(page)
    expect(page.locator("#asked")).not_to_have_text(first)
    expect(page.locator(".judged")).to_have_text("1 judged")


def test_a_draft_comes_back_after_a_reload_and_in_another_browser(visit, context, new_context):
    page = visit(context)
    page.keyboard.press("w")
    page.locator("#rationale").fill("Half a thought")
    with page.expect_response("**/label/draft/"):
        pass
    assert Draft.objects.get().body["rationale"] == "Half a thought"
    page.locator("#rationale").fill("Half a thought, and more")
    page.reload()
    expect(page.locator("#rationale")).to_have_value("Half a thought, and more")
    page.locator("#rationale").fill("Nearly done")
    with page.expect_response("**/label/draft/"):
        pass
    elsewhere = visit(new_context())
    expect(elsewhere.locator("#rationale")).to_have_value("Nearly done")
    page.keyboard.press("Escape")
    say(page)
    expect(page.locator(".judged")).to_have_text("1 judged")
    expect(page.locator("#rationale")).to_have_value("")
    assert not Draft.objects.exists()


EVERYTHING = {
    "criteria": [{"key": "fit", "label": "Fit"}, {"key": "odd", "label": "Odd", "kind": "flag", "required": False}],
    "safety": True, "chips": ["clearer", "shorter"], "rewrite": "optional",
}  # fmt: skip
FIELDS = "JSON.stringify([...new FormData(document.getElementById('answer'))])"


def said_on(page):
    fields = json.loads(page.evaluate(FIELDS))
    return [pair for pair in fields if re.match("answer|rating|safety|reasons|rationale|rewrite", pair[0])]


def test_every_field_of_a_form_comes_back_after_a_reload_and_after_an_undo(visit, context, project):
    version = ProtocolVersion.objects.create(project=project, number=2, definition=EVERYTHING)
    project.comparisons.update(protocol=version)
    page = visit(context)
    ready(page)
    for name, value in [("rating_fit_0", 2), ("rating_fit_1", 5), ("rating_odd_1", 1), ("safety_0", "safe"),
                        ("safety_1", "unsafe"), ("answer", 3)]:  # fmt: skip
        page.locator(f"[name={name}][value='{value}']").check(force=True)
    page.keyboard.press("w")
    page.get_by_label("shorter").check(force=True)
    page.locator("#rationale").fill("It says more.")
    page.keyboard.press("Escape")
    page.locator("#rewrite summary").click()
    with page.expect_response("**/label/draft/"):
        page.locator("#rewrite-text").fill("Better still.")
    said = said_on(page)
    assert ["reasons", "shorter"] in said and ["rewrite", "Better still."] in said and len(said) >= 9

    page.evaluate("localStorage.clear()")  # then it comes from the server
    page.reload()
    ready(page)
    assert said_on(page) == said

    context.set_offline(True)
    page.locator("[name=answer][value='2']").check(force=True)
    said = said_on(page)
    page.locator("#prompt").focus()
    page.keyboard.press("Enter")
    expect(alert(page)).to_contain_text("1 answer is kept here.")
    page.keyboard.press("z")
    expect(page.locator("#rationale")).to_have_value("It says more.")
    assert said_on(page) == said
    context.set_offline(False)
    page.locator("[name=answer][value='3']").check(force=True)
    page.locator("#prompt").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".judged")).to_have_text("1 judged")
    judgment = Judgment.objects.get(implied_by=None)
    order = judgment.display_order
    assert judgment.ratings == {"fit": [(2, 5)[order.index(0)], (2, 5)[order.index(1)]],
                                "odd": [(0, 1)[order.index(0)], (0, 1)[order.index(1)]]}  # fmt: skip
    assert (judgment.reasons, judgment.rewrite) == (["shorter"], "Better still.")


def test_an_earlier_judgment_is_found_with_h_and_changed_with_the_keys(visit, context):
    page = visit(context)
    ready(page)
    first = asked(page)
    say(page, "1")
    expect(page.locator(".judged")).to_have_text("1 judged")
    page.keyboard.press("h")
    expect(page.get_by_role("heading", name="My last 20")).to_be_visible()
    row = page.get_by_role("listitem").filter(has_text=first)
    expect(row).to_contain_text("A far better")
    row.get_by_role("link", name="Change").click()
    expect(page.locator("#asked")).to_have_text(first)
    expect(page.get_by_label("A far better")).to_be_checked()
    say(page, "6")
    expect(page.get_by_role("listitem").filter(has_text=first)).to_contain_text("B better")
    assert [abs(judgment.strength) for judgment in Judgment.objects.order_by("pk")] == [3, 2]
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_on_the_pages_around(visit, new_context, live_server, project, scheme, width):
    GuidelineVersion.objects.create(project=project, number=2, text="Judge the argument, not the speaker.")
    page = visit(new_context(color_scheme=scheme, viewport={"width": width, "height": 844}))
    say(page)
    expect(page.locator(".judged")).to_have_text("1 judged")
    for path in ("mine/", f"mine/{Judgment.objects.get().pk}/", "guidelines/", "summary/"):
        page.goto(live_server.url + PATH + path)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.complaints == []


def test_undo_counts_down_and_brings_the_item_back_with_the_next_one_behind_it(visit, context):
    page = visit(context)
    ready(page)
    page.clock.install()
    first = asked(page)
    say(page)
    expect(page.locator("#toast .left")).to_have_text("10 s")
    second = asked(page)
    page.clock.run_for(3000)
    expect(page.locator("#toast .left")).to_have_text("7 s")
    page.locator("#toast").get_by_role("button", name="Undo").click()
    expect(page.locator("#asked")).to_have_text(first)
    expect(page.locator("#toast")).to_be_hidden()
    expect(page.locator(".judged")).to_have_text("0 judged")
    page.clock.run_for(1000)
    say(page, "6")
    expect(page.locator("#asked")).to_have_text(second)
    expect(page.locator("#toast .left")).to_have_text("10 s")
    page.clock.run_for(11000)
    expect(page.locator("#toast")).to_be_hidden()
    page.keyboard.press("z")
    expect(page.locator("#asked")).to_have_text(first)
    assert [judgment.withdrawn for judgment in Judgment.objects.order_by("pk")] == [False, True, False, True]


def test_undo_of_an_answer_that_was_not_sent_takes_it_out(visit, context):
    page = visit(context)
    ready(page)
    context.set_offline(True)
    first = asked(page)
    say(page, "5")
    expect(alert(page)).to_contain_text("1 answer is kept here.")
    second = asked(page)
    page.keyboard.press("z")
    expect(page.locator("#asked")).to_have_text(first)
    expect(page.locator("#answer input:checked")).to_have_count(1)
    expect(alert(page)).to_be_hidden()
    context.set_offline(False)
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    expect(page.locator("#asked")).to_have_text(second)
    expect(page.locator(".judged")).to_have_text("1 judged")
    assert Judgment.objects.get().both_bad


def test_consent_comes_first_and_a_new_text_leaves_no_answer_behind(visit, context, project):
    def want(number):
        version = ConsentVersion.objects.create(project=project, number=number, text=f"Text {number}.")
        Project.objects.update(consent_version=version)

    want(1)
    page = visit(context)
    expect(page.get_by_role("heading", name="Before you start")).to_be_visible()
    assert Axe().run(page).violations_count == 0
    page.get_by_label("I have read this").check()
    page.get_by_role("button", name="Start labeling").click()
    ready(page)
    want(2)
    say(page)
    expect(alert(page)).to_contain_text("there is a new consent text to read first")
    page.get_by_role("link", name="Read it").click()
    page.get_by_label("I have read this").check()
    page.get_by_role("button", name="Start labeling").click()
    expect(page.locator(".judged")).to_have_text("1 judged")


def test_changed_guidelines_are_shown_once(visit, context, project):
    page = visit(context)
    ready(page)
    GuidelineVersion.objects.create(project=project, number=2, text="Judge the argument, not the speaker.")
    page.reload()
    news = page.locator("#news")
    expect(news.locator("ins").last).to_contain_text("speaker")
    ready(page)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    news.get_by_role("button", name="Got it").click()
    expect(news).to_have_count(0)
    say(page)
    expect(page.locator(".judged")).to_have_text("1 judged")
    expect(news).to_have_count(0)
    assert Membership.objects.get().guideline_seen == 2
    assert page.complaints == []


def test_changed_questions_are_announced(visit, context, project):
    page = visit(context)
    changed = page.locator("#asked-anew")
    expect(changed).to_be_hidden()
    version = ProtocolVersion.objects.create(project=project, number=2, definition={"question": "Which is kinder?"})
    project.comparisons.update(protocol=version)
    page.reload()
    expect(changed).to_be_visible()
    ready(page)
    say(page)
    expect(changed).to_be_hidden()


def test_a_break_is_proposed_after_45_minutes_of_work_and_can_be_declined(visit, context):
    page = visit(context)
    key = page.locator("#outbox").get_attribute("data-key") + ":sitting"
    rest = page.locator("#rest")
    expect(rest).to_be_hidden()
    page.evaluate("key => localStorage.setItem(key, JSON.stringify({seconds: 2700, at: Date.now()}))", key)
    page.mouse.move(40, 40)
    expect(rest).to_be_visible()
    rest.get_by_role("button", name="Go on").click()
    expect(rest).to_be_hidden()
    until(page, f"JSON.parse(localStorage.getItem('{key}')).seconds > 0")
    expect(rest).to_be_hidden()


def test_an_early_answer_waits_and_measures_are_stored(visit, context, project):
    Project.objects.update(minimum_seconds=5)
    for completion in project.comparisons.first().completions.all():
        completion.text = LONG
        completion.save()
    page = visit(context)
    page.clock.install()
    guard, submit = page.locator("#guard"), page.get_by_role("button", name="Submit")
    page.clock.run_for(1000)
    expect(guard).to_contain_text(re.compile(r"You can submit in \d s"))
    expect(submit).to_have_attribute("aria-disabled", "true")
    say(page)
    assert not Judgment.objects.exists()
    page.clock.run_for(6000)
    expect(guard).to_be_hidden()
    assert submit.get_attribute("aria-disabled") is None
    page.keyboard.press("Enter")
    expect(page.locator(".judged")).to_have_text("1 judged")
    judgment = Judgment.objects.get()
    assert judgment.active_seconds > 4
    assert len(judgment.seen) == 2 and all(share > 0 for share in judgment.seen)


def test_a_response_below_the_fold_must_be_brought_on_screen(visit, new_context, project):
    Project.objects.update(minimum_seconds=1)
    for comparison in project.comparisons.all():
        for completion in comparison.completions.all():
            completion.text += "\n\n" + LONG
            completion.save()
    page = visit(new_context(viewport={"width": 390, "height": 700}))
    page.clock.install()
    page.clock.run_for(3000)
    expect(page.locator("#guard")).to_contain_text("B is still to be seen")
    page.locator(".response").last.scroll_into_view_if_needed()
    page.mouse.wheel(0, 200)
    page.clock.run_for(1000)
    expect(page.locator("#guard")).to_be_hidden()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_while_answers_are_kept_or_refused(visit, new_context, width, scheme):
    context = new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = visit(context)
    ready(page)
    page.route(f"**{PATH}", lambda route: route.abort() if route.request.method == "POST" else route.continue_())
    say(page)
    expect(alert(page)).to_be_visible()
    page.evaluate("""() => {
        const key = document.getElementById('outbox').dataset.key + ':answer:x';
        localStorage.setItem(key, JSON.stringify({id: 'x', slot: '0', at: 1, asked: 'Why?', fields: [], html: '-',
          refusal: 'No.'}));
        for (const id of ['toast', 'rest', 'asked-anew']) document.getElementById(id).hidden = false;
    }""")
    say(page)
    expect(page.locator("#refused p")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_is_measured_is_told_in_the_sheet_of_keys(visit, context):
    page = visit(context)
    page.keyboard.press("?")
    page.get_by_text("What is measured").click()
    expect(page.get_by_role("dialog")).to_contain_text("how much of each response was on your screen")


def test_an_empty_queue_is_not_mistaken_for_an_item_ahead(visit, context):
    Slot.objects.exclude(pk=Slot.objects.first().pk).delete()
    page = visit(context)
    say(page)
    expect(page.get_by_role("heading", name="Nothing left. Thank you.")).to_be_visible()
    page.get_by_role("link", name="Your summary").click()
    expect(page.get_by_role("heading", name="Your summary")).to_be_visible()
    assert Axe().run(page).violations_count == 0
