"""Axe on every page of the site: for every role that may open it, in light, and in dark on a phone."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import AnonymousUser
from django.http import Http404
from django.test import RequestFactory
from django.urls import URLPattern, get_resolver

from tests.browsers import sign_in, watched_page
from tests.site.filled import ROLES, make_filled
from tests.site.pages import NOBODY, NOT_A_PAGE, PAGES, PREFIXES

AXE = Axe().axe_script  # half a megabyte, which a page takes in once and is then looked at twice
FIND = "axe.run({resultTypes: ['violations']}).then((found) => found.violations)"


def routes(patterns=None):
    for entry in patterns or get_resolver().url_patterns:
        yield from [entry] if isinstance(entry, URLPattern) else routes(entry.url_patterns)


def answers_get(route) -> bool:
    """Whether the view takes a GET at all; every view asks for its methods before it asks who is there."""
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    rest = {name: "1" for name in route.pattern.converters}
    try:
        return route.callback(request, **rest).status_code != 405
    except Http404:
        return True


@pytest.mark.django_db
def test_every_route_is_in_the_table_of_pages_or_among_its_exceptions():
    known = {page.route for page in PAGES} | set(NOT_A_PAGE)
    others = [route for route in routes() if route.name and not route.name.startswith(PREFIXES)]
    missing = [route.name for route in others if route.name not in known and answers_get(route)]
    assert not missing, f"Add {missing} to PAGES in tests/site/pages.py, so that axe looks at them, or to NOT_A_PAGE."
    gone = known - {route.name for route in routes()}
    assert not gone, f"{gone} are no routes any more: delete them from tests/site/pages.py."


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("role", [NOBODY, *ROLES])
def test_axe_finds_nothing_on_any_page(role, live_server, context, tmp_path, settings):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path)
    if role != NOBODY:
        sign_in(context, live_server.url, filled.people[role])
    browser_page = watched_page(context)
    found = [line for page in PAGES if role in page.roles for line in _look_at(browser_page, live_server, page, filled)]
    assert not found, "\n".join(found)


def _look_at(browser_page, live_server, page, filled) -> list[str]:
    """Complaints of axe, of the browser's console, and of a page that is wider than a phone."""
    said = browser_page.complaints = []
    browser_page.set_viewport_size({"width": 1280, "height": 900})
    browser_page.emulate_media(color_scheme="light")
    address = page.address(filled)
    response = browser_page.goto(live_server.url + address)
    if response.status != 200:
        return [f"{address}: status {response.status}"]
    browser_page.evaluate(AXE)
    said += _violations(browser_page)
    browser_page.emulate_media(color_scheme="dark")
    browser_page.set_viewport_size({"width": 390, "height": 844})
    said += [f"dark, on a phone: {line}" for line in _violations(browser_page)]
    if (width := browser_page.evaluate("document.documentElement.scrollWidth")) > 390:
        said.append(f"{width} pixels wide on a phone of 390")
    return [f"{address}: {line}" for line in said]


def _violations(browser_page) -> list[str]:
    return [
        f"{violation['id']}: {violation['help']}: {json.dumps([node['target'] for node in violation['nodes']][:3])}"
        for violation in browser_page.evaluate(FIND)
    ]
