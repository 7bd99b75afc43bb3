"""The versions' pages in a real browser: a switch that waits, accessibility, content security, a phone, no script."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from labelapp.models import DeploymentEvent, EngineVersion
from labelapp.rounds.promote import activate_pending, deployment_of, promote
from tests.browsers import sign_in, watched_page
from tests.factories import make_project, make_prompt, make_user
from tests.gate.rounds import audit, make_passing, make_policy

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def admin():
    return make_user()


@pytest.fixture
def project(admin, tmp_path):
    project = make_project("arguments", admin=admin)
    make_prompt(project, fresh=True)
    first = make_passing(project, tmp_path, name="policy-one")
    promote(deployment=deployment_of(project), version=first, by=admin, seen_epoch=0)
    second = make_policy(project, tmp_path, name="policy-two", parent=first, loaded=False)
    audit(second, tmp_path, reward_accuracy={"value": 0.7},
          counterfactual_flip_rate_change={"value": -0.06, "low": -0.08, "high": -0.04, "unit": "share"})  # fmt: skip
    return project


@pytest.fixture
def visit(live_server, admin, project):
    """Open a page of the project signed in; complaints of the browser's console are collected on the page."""

    def open_page(context, path: str):
        sign_in(context, live_server.url, admin)
        page = watched_page(context)
        page.goto(f"{live_server.url}/p/arguments/{path}")
        return page

    return open_page


def test_the_time_a_version_takes_to_load_runs_on_the_page_and_ends_with_the_switch(visit, context, project):
    page = visit(context, "versions/")
    page.get_by_role("link", name="Promote policy-two").click()
    page.get_by_label("Why it goes ahead").fill("It is the only candidate.")
    page.get_by_role("button", name="Promote against the gate").click()

    waiting = page.locator("#deployment .notice")
    expect(waiting).to_contain_text("policy-two has been loading for")
    # Nobody reloads: the section asks for itself.
    expect(waiting).to_contain_text(re.compile(r"loading for [1-9]\d* s"), timeout=30_000)
    EngineVersion.objects.create(version=project.versions.get(name="policy-two"), state="ready")
    activate_pending(deployment_of(project))

    expect(page.locator("#deployment .figure")).to_contain_text("policy-two", timeout=30_000)
    expect(page.get_by_role("link", name="Roll back to policy-one")).to_be_visible()
    assert DeploymentEvent.objects.first().reason == "It is the only candidate."
    assert not page.complaints


def test_without_script_a_person_promotes_and_rolls_back(visit, browser, project):
    EngineVersion.objects.create(version=project.versions.get(name="policy-two"), state="ready")
    context = browser.new_context(java_script_enabled=False)
    page = visit(context, "versions/policy-two/")

    page.get_by_role("link", name="Promote").click()
    page.get_by_label("Why it goes ahead").fill("No better one is at hand.")
    page.get_by_role("button", name="Promote").click()
    expect(page.locator("#deployment .figure")).to_contain_text("policy-two")
    page.get_by_role("link", name="Roll back to policy-one").click()
    page.get_by_role("button", name="Roll back").click()
    expect(page.locator("#deployment .figure")).to_contain_text("policy-one")
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_the_pages_are_accessible_and_fit_their_screen(visit, browser, scheme, width):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    for path in ("versions/", "versions/policy-two/", "versions/policy-two/promote/"):
        page = visit(context, path)
        found = Axe().run(page)
        assert not found.response["violations"], found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert not page.complaints
    context.close()
