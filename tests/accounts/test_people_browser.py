"""Invitations, members and bulk changes in a real browser, from the admin's form to the newcomer's first item."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labelapp.models import Batch, Invitation, Membership, User
from tests.browsers import sign_in, watched_page
from tests.factories import make_comparison, make_project, make_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_attempts_yet")]
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def project():
    project = make_project("convincing", admin=make_user("adm"))
    for _ in range(3):
        make_comparison(project)
    return project


@pytest.fixture
def signed_in(live_server, project):
    def open_page(context, name="adm"):
        sign_in(context, live_server.url, User.objects.get(username=name))
        return watched_page(context)

    return open_page


def looks_well(page) -> None:
    """No violation in light, nor in dark on a phone, where nothing is wider than the screen."""
    for scheme, size in (("light", {"width": 1280, "height": 900}), ("dark", PHONE)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_from_the_invitation_to_the_first_item(live_server, signed_in, context, new_context, project):
    page = signed_in(context)
    page.goto(f"{live_server.url}/p/convincing/people/")
    page.get_by_label("Role").select_option("labeler")
    page.get_by_label("Tags").fill("German, logic")
    page.get_by_label("People who may join").fill("2")
    page.get_by_role("button", name="Make the link").click()
    link = page.locator("#join-link").inner_text()
    looks_well(page)

    newcomer = watched_page(new_context())
    newcomer.goto(link)
    expect(newcomer.get_by_role("heading", level=1)).to_have_text("Join Convincing")
    looks_well(newcomer)
    newcomer.get_by_label("User name").fill("nora")
    newcomer.get_by_label("Password").fill("short")
    newcomer.get_by_role("button", name="Make the account and join").click()
    expect(newcomer.get_by_text("This password is too short")).to_be_visible()
    newcomer.get_by_label("Password").fill("a quiet green lamp")
    newcomer.get_by_role("button", name="Make the account and join").click()
    expect(newcomer.get_by_text("Welcome to Convincing: you are labeler here.")).to_be_visible()
    expect(newcomer.locator("#asked")).to_be_visible()
    assert Membership.objects.get(user__username="nora").tags == ["german", "logic"]

    make_user("otto")
    friend = watched_page(new_context())
    friend.goto(link)
    friend.get_by_role("link", name="I have an account").click()
    friend.get_by_label("Username").or_(friend.get_by_label("Login")).fill("otto")
    friend.get_by_label("Password").fill("correct horse battery")
    friend.get_by_role("button", name="Sign in").click()
    friend.get_by_role("button", name="Join").click()
    expect(friend.locator("#asked")).to_be_visible()
    assert Invitation.objects.get().uses_left == 0

    late = watched_page(new_context(java_script_enabled=False))
    assert late.goto(link).status == 410
    expect(late.get_by_role("heading", level=1)).to_have_text("This invitation is used up")
    assert page.complaints == newcomer.complaints[1:] == friend.complaints == []  # the 422 is told to the console


def test_everything_about_a_member_works_without_script(live_server, signed_in, new_context, project):
    project.memberships.create(user=make_user("lena"), role="labeler")
    page = signed_in(new_context(java_script_enabled=False))
    page.goto(f"{live_server.url}/p/convincing/people/")
    page.get_by_role("link", name="lena").click()
    page.get_by_label("Pause, because").fill("Please call me.")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("lena is paused")).to_be_visible()
    page.get_by_role("link", name="lena").click()
    page.get_by_role("button", name="Let them work again").click()
    page.get_by_role("link", name="lena").click()
    page.get_by_text("Remove from the project").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Their judgments stay.")).to_be_visible()
    assert not Membership.objects.filter(user__username="lena").exists()


@pytest.mark.parametrize("script", [True, False])
def test_many_comparisons_are_changed_after_a_review(live_server, signed_in, new_context, project, script):
    page = signed_in(new_context(java_script_enabled=script))
    page.goto(f"{live_server.url}/p/convincing/data/comparisons/?state=open")
    page.get_by_label("all 3 that match the filter").check()
    page.get_by_label("What to do").select_option("batch")
    if script:
        expect(page.get_by_label("Overlap")).to_be_hidden()
        looks_well(page)
    page.get_by_label("Or a new batch").fill("urgent")
    page.get_by_role("button", name="Review the change").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Change 3 comparisons?")
    if script:
        looks_well(page)
    page.get_by_role("button", name="Change them").click()
    expect(page.get_by_text("3 comparisons are in the batch urgent now.")).to_be_visible()
    assert Batch.objects.get().comparisons.count() == 3
    assert page.complaints == []


def test_a_page_of_rows_is_picked_at_once(live_server, signed_in, context, project):
    page = signed_in(context)
    page.goto(f"{live_server.url}/p/convincing/data/comparisons/")
    page.get_by_label("Pick all on this page").check()
    expect(page.locator("#picked-words")).to_have_attribute("data-count", "3")
    page.get_by_label("What to do").select_option("overlap")
    page.get_by_role("button", name="Review the change").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Something is missing")
    looks_well(page)
    page.get_by_label("Overlap").fill("2")
    page.get_by_role("button", name="Review the change").click()
    page.get_by_role("button", name="Change them").click()
    expect(page.get_by_text("3 places opened")).to_be_visible()
