"""What the browser may do with a response."""

from collections.abc import Callable
from functools import cache, wraps

from csp.constants import HEADER
from csp.middleware import CheckableLazyObject, CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

usual_policy = cache(build_policy)
NEVER = "max-age=0, no-cache, no-store, must-revalidate, private"  # what Django's never_cache puts together


class PolicyMiddleware(CSPMiddleware):
    """django-csp's; a response without a nonce or rule of its own gets the text that was written once."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        special = getattr(request, "_csp_nonce", None) or any(name.startswith("_csp") for name in vars(response))
        if special or settings.DEBUG:
            return super().process_response(request, response)
        response.headers.setdefault(HEADER, usual_policy())
        request.csp_nonce = CheckableLazyObject(self._csp_nonce_post_response)  # too late for one
        return response


def never_cache(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Neither browser nor proxy keeps the page. Django's decorator goes through the headers' parts at each response."""

    @wraps(view)
    def page(*args, **kwargs) -> HttpResponseBase:
        response = view(*args, **kwargs)
        response.headers["Cache-Control"] = NEVER
        return response

    return page
