"""What labelers see of the quality flow in a real browser: an explanation after gold, why an item comes back."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db import transaction
from playwright.sync_api import expect

from labelapp.labeling.quality.gold import hand_gold, make_gold
from labelapp.labeling.quality.reask import reask
from labelapp.models import Judgment
from tests.factories import make_comparison
from tests.labeling.conftest import claim_and_answer
from tests.labeling.test_page_browser import labeler, project, visit  # noqa: F401 - fixtures
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_after_a_gold_item_its_explanation_is_shown_beside_the_next_one(visit, context, project, labeler, scheme):  # noqa: F811
    known = make_comparison(project, slots=0)
    make_gold(known, gold={"both_bad": True}, explanation="Neither says why.\nSee the guidelines, part 2.")
    with transaction.atomic():
        hand_gold(project, labeler.pk)
    page = visit(context)
    page.emulate_media(color_scheme=scheme)
    expect(page.locator("#outcome")).to_have_count(0)

    page.keyboard.press("2")
    page.keyboard.press("Enter")

    expect(page.locator("#outcome")).to_contain_text("it was another one")
    expect(page.locator("#outcome")).to_contain_text("See the guidelines, part 2.")
    expect(page.locator("#prompt")).to_be_focused()
    assert Axe().run(page).response["violations"] == []

    page.keyboard.press("3")
    page.keyboard.press("Enter")
    expect(page.locator("#outcome")).to_have_count(0)
    wait_until(lambda: Judgment.objects.count() == 2, what="the second answer")
    page.wait_for_load_state("networkidle")
    assert page.complaints == []


def test_an_item_that_comes_back_says_why(visit, context, project, labeler):  # noqa: F811
    first = claim_and_answer(project, labeler)
    reask(judgments=[first], note="Guidelines v2 see this differently.")
    context.set_default_timeout(20_000)
    page = visit(context)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator(".again")).to_contain_text("This item comes back to you")
    expect(page.locator(".again q")).to_have_text("Guidelines v2 see this differently.")
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator(".again")).to_have_count(0)
    wait_until(lambda: Judgment.objects.filter(replaces=first).exists(), what="the revision")
    page.wait_for_load_state("networkidle")
