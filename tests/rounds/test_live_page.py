"""The round page in a real browser, on a real worker's round."""

import pytest
from django.test import Client

from tests.factories import make_project, make_user
from tests.rounds.material import queue_reward_round
from tests.rounds.processes import PATIENCE, wait_for

pytestmark = [pytest.mark.django_db(transaction=True)]
COUNT_UPDATES = """
  window.updates = [];
  const Real = window.EventSource;
  window.EventSource = class extends Real {
    constructor(...words) {
      super(...words);
      for (const name of ["progress", "metrics", "log", "end"]) {
        this.addEventListener(name, () => window.updates.push(name));
      }
    }
  };
"""


def test_a_browser_sees_the_plots_move_before_the_end_and_the_result_without_reloading(page, web_server, celery_worker):
    """In two tabs that share one stream, the first of which is closed before the end."""
    round = queue_reward_round(make_project(admin=make_user()), steps=40)
    address, session = web_server(), Client()
    session.force_login(round.project.memberships.get().user)
    page.context.add_cookies(
        [{"name": "sessionid", "value": session.cookies["sessionid"].value, "url": address}]
    )
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    streams = []
    page.context.on("request", lambda asked: streams.append(asked) if "/events" in asked.url else None)
    first, where = page.context.new_page(), f"{address}/p/{round.project.slug}/rounds/{round.number}/"
    first.goto(where)
    first.get_by_text("Waiting for a free worker").wait_for()
    page.add_init_script(COUNT_UPDATES)
    page.goto(where)

    celery_worker("training")
    for tab in (first, page):
        tab.locator("[data-state]", has_text="running").wait_for(timeout=PATIENCE * 1000)
    assert len(streams) == 1
    first.close()
    page.locator('[data-plot="loss_nats"] path[data-smooth]').wait_for(state="attached", timeout=PATIENCE * 1000)
    assert wait_for(round).state == "done", round.error
    page.locator("[data-state]", has_text="done").wait_for()

    updates = page.evaluate("window.updates")
    assert updates.index("end") >= 3 and "metrics" in updates
    version = round.versions.get()
    page.get_by_role("link", name=version.name).first.wait_for()
    assert "step 40 of 40" in page.locator("#log").inner_text()
    assert not page.get_by_role("button", name="Cancel round").count()
    assert not problems
