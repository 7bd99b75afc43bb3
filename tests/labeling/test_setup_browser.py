"""Composing a protocol in a real browser: the preview follows the typing, and labelers are asked what was saved."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import expect

from labelapp.labeling.protocol import parse
from labelapp.labeling.setup.actions import save_protocol, save_text
from labelapp.labeling.setup.presets import PRESETS
from labelapp.models import ConsentVersion, GuidelineVersion, Judgment
from tests.browsers import sign_in, watched_page
from tests.factories import make_comparison, make_project, make_user

pytestmark = pytest.mark.django_db(transaction=True)
PHONE = {"width": 390, "height": 844}
PAGES = [
    "setup", "setup_project", "setup_protocol", "setup_protocol_versions", "setup_guidelines",
    "setup_guidelines_versions", "setup_consent", "setup_consent_versions", "setup_queue",
]  # fmt: skip


@pytest.fixture
def project():
    project = make_project("debates", admin=make_user("ada"))
    make_comparison(project, "Trains are **fast**.", "Trains are slow.")
    return project


@pytest.fixture
def visit(live_server, project):
    """Open a page of the project as its admin; complaints of the browser's console are collected on it."""

    def open_page(context, name, query=""):
        sign_in(context, live_server.url, project.memberships.get().user)
        page = watched_page(context)
        page.goto(live_server.url + reverse(name, args=[project.slug]) + query)
        return page

    return open_page


def test_an_admin_composes_sees_what_labelers_will_see_saves_and_labels_under_it(visit, context, project):
    page = visit(context, "setup_protocol")
    frame = page.frame_locator(".frame")
    expect(frame.get_by_role("article", name="Response B").get_by_text("Trains are slow.").first).to_be_visible()
    expect(frame.locator(".pill")).to_have_count(8)

    page.get_by_label("Question", exact=True).fill("Which argument is kinder?")
    expect(frame.locator("#answer").get_by_text("Which argument is kinder?")).to_be_visible()
    page.get_by_label("Grades on each side").select_option("2")
    expect(frame.locator(".pill")).to_have_count(6)
    page.get_by_label("A tie is an answer").uncheck()
    expect(frame.locator(".pill")).to_have_count(5)

    page.get_by_label("Words for the grades").fill("kinder")
    expect(page.locator("#preview").get_by_role("status")).to_contain_text("give 2 words, not 1")
    expect(page.locator("#errors-id_grades")).to_contain_text("give 2 words, not 1")
    page.get_by_label("Words for the grades").fill("kinder\nmuch kinder")
    expect(frame.get_by_text("A much kinder").first).to_be_visible()
    expect(page.locator("#errors-id_grades")).to_be_empty()
    expect(page.get_by_label("Words for the grades")).to_be_focused()

    page.get_by_label("Also for open comparisons").check()
    page.get_by_role("button", name="Save as a new version").click()
    expect(page.get_by_role("status").first).to_contain_text("Saved as version 2")
    expect(page.get_by_text("1 open comparison was moved.")).to_be_visible()

    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_text("Which argument is kinder?")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("1")
    expect(page.locator("#answer input:checked")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Nothing left")).to_be_visible()
    judgment = Judgment.objects.get()
    assert (abs(judgment.strength), judgment.protocol.number) == (2, 2)
    assert page.complaints == []


def test_criteria_are_added_and_moved_by_keyboard_and_the_focus_stays_with_them(visit, context, project):
    page = visit(context, "setup_protocol")
    for number, label in enumerate(("Helpful", "Harmless"), start=1):
        page.get_by_role("button", name="Add a criterion").press("Enter")
        row = page.get_by_role("group", name=f"Criterion {number}")
        expect(row.get_by_label("Label")).to_be_focused()
        page.keyboard.type(label)
    expect(page.frame_locator(".frame").get_by_text("Harmless").first).to_be_visible()
    page.get_by_role("button", name="Move criterion 2 up").press("Enter")
    expect(page.get_by_role("button", name="Move criterion 1 up")).to_be_focused()
    expect(page.get_by_role("group", name="Criterion 1").get_by_label("Label")).to_have_value("Harmless")
    page.get_by_role("button", name="Save as a new version").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Saved as version 2")
    assert [c.key for c in parse(project.protocol_versions.last().definition).criteria] == ["harmless", "helpful"]
    assert page.complaints == []


def test_composing_works_without_script(visit, new_context, project):
    page = visit(new_context(java_script_enabled=False), "setup_protocol")
    page.get_by_label("Start from").select_option("helpsteer2")
    page.get_by_role("button", name="Take it").click()
    page.get_by_role("button", name="Remove criterion 5").click()
    page.get_by_role("button", name="Move criterion 4 up").click()
    page.get_by_role("button", name="Add a criterion").click()
    row = page.get_by_role("group", name="Criterion 5")
    row.get_by_label("Label").fill("Kind")
    row.get_by_label("Label").press("Enter")  # shows the preview; it does not save
    assert project.protocol_versions.count() == 1
    page.get_by_role("button", name="Save as a new version").click()
    keys = [c.key for c in parse(project.protocol_versions.last().definition).criteria]
    assert keys == ["helpfulness", "correctness", "complexity", "coherence", "kind"]


def test_the_preview_runs_nothing_and_reaches_nobody(visit, context, project):
    make_comparison(project, '<script>alert(1)</script><img src="https://example.org/x">', "Fine.")
    page = visit(context, "setup_protocol")
    dialogs = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.dismiss()))
    page.get_by_label("Question", exact=True).fill('"><img src=x onerror=alert(1)></iframe><script>alert(1)</script>')
    expect(page.frame_locator(".frame").locator("#answer").get_by_text("onerror=alert(1)")).to_be_visible()
    assert page.locator("iframe").count() == 1
    assert page.locator("iframe").get_attribute("sandbox") == ""
    assert dialogs == [] and page.complaints == []


def test_each_preset_is_previewed_on_a_phone_with_nothing_on_top_of_submit(visit, new_context):
    context = new_context(viewport=PHONE)
    for preset in PRESETS:
        page = visit(context, "setup_protocol", f"?preset={preset}")
        frame = page.frame_locator(".frame")
        submit = frame.get_by_role("button", name="Submit").bounding_box()
        pills = [pill.bounding_box() for pill in frame.locator(".steps .pill, .apart").all()]
        assert not [pill for pill in pills if overlaps(pill, submit)], preset
        assert submit["x"] + submit["width"] <= PHONE["width"], preset
        assert page.complaints == []
        page.close()


def overlaps(one: dict, other: dict) -> bool:
    apart = [
        one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at]
        for at, size in (("x", "width"), ("y", "height"))
    ]
    return not any(apart)


def test_guidelines_are_previewed_as_they_are_typed_and_compared_by_word(visit, context, project):
    page = visit(context, "setup_guidelines")
    page.get_by_label("Text").fill("Judge the **argument**, never the person.")
    expect(page.locator("#preview strong")).to_have_text("argument")
    page.get_by_role("button", name="Save as a new version").click()
    page.get_by_role("link", name="Versions and differences").click()
    expect(page.locator(".diff ins").first).to_contain_text("**")
    page.get_by_role("button", name="Make it the latest").click()
    expect(page.get_by_text("Saved as version 3.")).to_be_visible()
    assert [version.number for version in project.guideline_versions.all()] == [1, 2, 3]
    assert page.complaints == []


def test_the_setup_pages_are_accessible_light_and_dark_and_fit_a_phone(visit, context, project):
    save_protocol(project=project, definition=PRESETS["instructgpt"].protocol.as_json())
    for model in (GuidelineVersion, ConsentVersion):
        for text in ("# Be fair\n\nAlways.", "# Be kind\n\nAlways, `please`."):
            save_text(project=project, model=model, text=text)
    for name in PAGES:
        page = visit(context, name)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = Axe().run(page)
            assert not found.violations_count, f"{name} {scheme}: {found.generate_report()}"
        page.set_viewport_size(PHONE)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
        assert page.complaints == []
        page.close()
