"""Tables of people and of reviews on a phone: everything is on the screen, with its column's name."""

import pytest

from tests.browsers import sign_in, watched_page
from tests.site.filled import make_filled
from tests.site.pages import PAGES

WIDE = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
UNNAMED = "[...document.querySelectorAll('.stacked td')].filter(cell => !cell.dataset.label).length"
CUT = """[...document.querySelectorAll('.stacked a, .stacked button')]
  .filter(link => link.getBoundingClientRect().right > 390).length"""


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_table_is_off_the_screen_of_a_phone(live_server, context, tmp_path, settings):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path)
    sign_in(context, live_server.url, filled.people["admin"])
    page = watched_page(context)
    page.set_viewport_size({"width": 390, "height": 844})
    for row in PAGES:
        if row.route in ("people", "review_history", "labeling"):
            page.goto(live_server.url + row.address(filled))
            assert page.locator(".stacked").count() == 2, row.route
            assert [page.evaluate(script) for script in (WIDE, UNNAMED, CUT)] == [0, 0, 0], row.route
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.locator(".stacked thead").first.is_visible(), "a wide screen has a table as before"
