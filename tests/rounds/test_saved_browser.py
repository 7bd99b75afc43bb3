"""A person saves a recipe, clones it, launches both, and compares what came of them; with a real worker."""

import pytest

from tests.browsers import sign_in, watched_page
from tests.factories import make_project, make_user
from tests.rounds.material import make_parent, make_snapshot
from tests.rounds.processes import wait_for

pytestmark = [pytest.mark.django_db(transaction=True)]
QUICK = """evaluate.bootstrap=100
audit.bootstrap=100
reward.optimization.batch_size=4
reward.optimization.max_steps=4"""


def test_save_clone_launch_and_compare(page, web_server, celery_worker):
    admin = make_user()
    project = make_project(admin=admin)
    make_snapshot(project), make_parent(project)
    address = web_server()
    sign_in(page.context, address, admin)
    page = watched_page(page.context)
    base = f"{address}/p/{project.slug}/rounds"

    page.goto(f"{base}/new/?recipe=reward")
    page.get_by_text("Numbers of the recipe").click()
    page.get_by_label("Further settings").fill(QUICK)
    page.get_by_text("Save as a recipe").click()
    page.get_by_label("Name", exact=True).fill("Quick look")
    page.get_by_role("button", name="Save as recipe").click()
    page.get_by_text("Saved as Quick look, version 1.").wait_for()

    page.goto(f"{base}/recipes/")
    page.get_by_label("Clone version 1 as").fill("Bolder look")
    page.get_by_role("button", name="Clone").click()
    page.get_by_text("Bolder look begins as a copy").wait_for()

    celery_worker("training")
    page.goto(f"{base}/new/")
    page.get_by_role("navigation", name="Saved recipe").get_by_role("link", name="Quick look version").click()
    launch(page, project, number=1)

    page.goto(f"{base}/new/")
    page.get_by_role("navigation", name="Saved recipe").get_by_role("link", name="Bolder look version").click()
    page.get_by_text("Numbers of the recipe").click()
    page.get_by_label("Reward model: learning rate").fill("0.003")
    page.get_by_text("Save as a recipe").click()
    page.get_by_role("button", name="Save as recipe").click()
    page.get_by_text("Saved as Bolder look, version 2.").wait_for()
    launch(page, project, number=2)

    page.goto(f"{base}/compare/")
    for number in (1, 2):
        page.get_by_label(f"Round {number} ·").check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Rounds 1 and 2 side by side").wait_for()
    row = page.get_by_role("row").filter(has_text="reward.optimization.learning_rate")
    assert row.get_by_role("cell").all_inner_texts()[1:] == ["0.0003", "0.003"]
    accuracy = page.get_by_role("row").filter(has_text="Held-out reward accuracy").first
    assert "paired, 8 items" in accuracy.inner_text()
    loss = page.get_by_role("img", name="Loss: round 1 ends at")
    assert loss.locator('path[class^="line-"]').count() == 2
    assert not page.complaints


def launch(page, project, *, number: int) -> None:
    """Press the button and wait for the round's end."""
    page.get_by_role("button", name="Launch", exact=True).click()
    page.get_by_role("heading", name=f"Round {number} ·").wait_for()
    round = project.rounds.get(number=number)
    assert round.recipe_version and wait_for(round).state == "done", round.error
