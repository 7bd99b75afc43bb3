"""What the browser may do, said with every response."""

from functools import cache

from csp.constants import HEADER
from csp.middleware import CheckableLazyObject, CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

usual_policy = cache(build_policy)


class PolicyMiddleware(CSPMiddleware):
    """django-csp's; a response without a nonce or rule of its own gets the text that was written once."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        special = getattr(request, "_csp_nonce", None) or any(name.startswith("_csp") for name in vars(response))
        if special or settings.DEBUG:
            return super().process_response(request, response)
        response.headers.setdefault(HEADER, usual_policy())
        request.csp_nonce = CheckableLazyObject(self._csp_nonce_post_response)  # too late for one
        return response
