"""A person has a round estimated, watches it, launches it within a budget, and reads what it took; real worker."""

import pytest

from labelapp.models import Project
from tests.browsers import sign_in, watched_page
from tests.factories import make_project, make_user
from tests.rounds.material import make_parent, make_snapshot
from tests.rounds.processes import PATIENCE, wait_for
from tests.rounds.test_saved_browser import QUICK

pytestmark = [pytest.mark.django_db(transaction=True)]


def test_estimate_launch_within_the_budget_and_compare_with_what_it_took(page, web_server, celery_worker):
    admin = make_user()
    project = make_project(admin=admin)
    Project.objects.update(cpu_hour_price=60, budget_device_hours=5)
    make_snapshot(project), make_parent(project)
    address = web_server()
    sign_in(page.context, address, admin)
    page = watched_page(page.context)
    base = f"{address}/p/{project.slug}/rounds"

    page.goto(f"{base}/new/?recipe=reward")
    page.get_by_text("Numbers of the recipe").click()
    page.get_by_label("Further settings").fill(QUICK)
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_text("estimate it first").wait_for()

    page.get_by_role("button", name="Estimate").click()
    page.get_by_text("Waiting for a free trainer").wait_for()
    celery_worker("training")
    part = page.get_by_role("region", name="What this round would take")
    part.get_by_text("Memory at most").wait_for(timeout=PATIENCE * 1000)  # the part renewed itself
    assert "EUR" in part.inner_text() and "24 decisive pairs" in part.inner_text()

    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_role("heading", name="Round 1 ·").wait_for()
    assert wait_for(project.rounds.get()).state == "done"
    page.goto(f"{base}/1/")
    memory = page.locator("#compute").get_by_role("row").filter(has_text="Memory at most").get_by_role("cell")
    assert all(text.endswith("MB") for text in memory.all_inner_texts()[1:])
    page.goto(f"{base}/compute/")
    booked = page.get_by_role("table").inner_text()
    assert "Round 1" in booked and "A dry run" in booked and "EUR" in booked
    assert len(page.complaints) == 1 and "422" in page.complaints[0]  # the launch that was refused
