"""The labeling page in a real browser: it keeps itself up to date while somebody looks, and takes nothing away."""

import pytest
from playwright.sync_api import expect

from labelapp.labeling.overview.counting import refresh_all
from labelapp.models import QueueHealth
from tests.browsers import sign_in, watched_page
from tests.factories import make_comparison, make_project, make_user
from tests.labeling.conftest import claim_and_answer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lena():
    return make_user("lena")


@pytest.fixture
def project(lena):
    project = make_project("convincing", labeler=lena, admin=make_user("adm"))
    for _ in range(5):
        make_comparison(project)
    claim_and_answer(project, lena)
    refresh_all()
    return project


@pytest.fixture
def visit(live_server, project):
    def open_page(context):
        sign_in(context, live_server.url, project.memberships.get(role="admin").user)
        page = watched_page(context)
        page.clock.install()
        page.goto(f"{live_server.url}/p/convincing/labeling/")
        return page

    return open_page


def judge_one_more(project, lena):
    claim_and_answer(project, lena)
    QueueHealth.objects.update(count_seconds=0)
    refresh_all()


def test_figures_follow_and_what_is_unfolded_and_focused_stays(visit, context, project, lena):
    page = visit(context)
    today = page.locator(".numbers .figure").first
    expect(today).to_have_text("1")
    page.locator("#chart-1 summary").click()
    page.locator("#people-table").focus()
    judge_one_more(project, lena)
    page.clock.run_for(10_000)
    expect(today).to_have_text("2")
    expect(page.locator("#chart-1")).to_have_attribute("open", "")
    expect(page.locator("#people-table")).to_be_focused()
    judge_one_more(project, lena)
    page.clock.run_for(10_000)
    expect(today).to_have_text("3")
    assert page.complaints == []


def test_a_hidden_tab_asks_nothing_and_catches_up_when_looked_at(visit, context, project, lena):
    page = visit(context)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    judge_one_more(project, lena)
    page.clock.run_for(60_000)
    assert asked == []
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: false, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    expect(page.locator(".numbers .figure").first).to_have_text("2")


def test_without_script_the_page_is_a_snapshot_with_a_way_to_reload(visit, new_context, project, lena):
    page = visit(new_context(java_script_enabled=False))
    judge_one_more(project, lena)
    page.get_by_role("link", name="Reload").click()
    expect(page.locator(".numbers .figure").first).to_have_text("2")
    page.locator("#chart-2 summary").click()
    expect(page.locator("#chart-2 td.n").first).to_have_text("2")
