"""The policy is on every response, as django-csp writes it."""

import pytest
from csp.decorators import csp_update
from csp.exceptions import CSPNonceError
from csp.middleware import CSPMiddleware
from django.http import HttpResponse
from django.test import RequestFactory

from labelapp.policy import PolicyMiddleware


def policy(middleware, view=lambda request: HttpResponse("<p>"), nonce="") -> str:
    """What the header says; with a nonce where the view used one."""
    request = RequestFactory().get("/")
    request._csp_nonce = nonce or None
    return middleware(view)(request)["Content-Security-Policy"]


def as_set(text: str) -> set[str]:
    return {part.strip() for part in text.split(";")}


def test_a_usual_response_has_the_policy_of_the_settings():
    said = as_set(policy(PolicyMiddleware))
    assert said == as_set(policy(CSPMiddleware)) and "script-src 'self'" in said and "default-src 'none'" in said


def test_a_page_that_used_its_nonce_names_it():
    assert "script-src 'self' 'nonce-abc'" in as_set(policy(PolicyMiddleware, nonce="abc"))
    assert "nonce" not in policy(PolicyMiddleware)


def test_a_view_may_have_a_rule_of_its_own():
    view = csp_update({"img-src": "https://example.org"})(lambda request: HttpResponse("<p>"))
    assert "img-src 'self' data: https://example.org" in as_set(policy(PolicyMiddleware, view))
    assert "example.org" not in policy(PolicyMiddleware)


def test_a_header_that_is_there_stays():
    own = HttpResponse("<p>", headers={"Content-Security-Policy": "sandbox"})
    assert policy(PolicyMiddleware, lambda request: own) == "sandbox"


def test_a_nonce_that_is_asked_for_too_late_is_an_error():
    request = RequestFactory().get("/")
    PolicyMiddleware(lambda request: HttpResponse("<p>"))(request)
    with pytest.raises(CSPNonceError):
        str(request.csp_nonce)
