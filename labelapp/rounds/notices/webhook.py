"""One signed POST, as Standard Webhooks 1.0 describes it (https://www.standardwebhooks.com)."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
from django.conf import settings

from labelapp.models import Subscription

SECONDS = 10
GONE = 410  # the receiver wants no more


class AddressRefused(ValueError):
    """This server does not send there; the message says why."""


class NotTaken(Exception):
    """The receiver did not take the message. `gone`: it asks for no more."""

    def __init__(self, reason: str, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.gone = gone


def check_address(url: str) -> None:
    """Refuse with AddressRefused what is no web address, holds a password, or is not among WEBHOOK_HOSTS.

    Without the list any project's admin could make this server talk to its neighbours.
    """
    try:
        found = urlsplit(url)
        host, port = found.hostname or "", found.port
    except ValueError as error:
        raise AddressRefused(f"{url[:80]} is no web address: {error}") from error
    if found.scheme not in {"https", "http"} or not host:
        raise AddressRefused(f"{url[:80]} is no web address: begin with https://")
    if found.username or found.password:
        raise AddressRefused("An address must not hold a password: the signature proves who sends.")
    allowed = {each.strip().lower() for each in settings.WEBHOOK_HOSTS}
    if not {host.lower(), f"{host.lower()}:{port}"} & allowed:
        raise AddressRefused(f"This server may not call {host}: its operator allows it with WEBHOOK_HOSTS.")


def secret_of(subscription: Subscription) -> str:
    """whsec_..., as receivers' libraries take it: 32 bytes that only this server can make again."""
    text = f"webhook {subscription.pk} {subscription.nonce}".encode()
    key = hmac.digest(settings.SECRET_KEY.encode(), text, hashlib.sha256)
    return "whsec_" + base64.b64encode(key).decode()


def signature(secret: str, message_id: str, moment: int, body: bytes) -> str:
    """v1,BASE64 of HMAC-SHA-256 over "id.seconds.body"."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = hmac.digest(key, f"{message_id}.{moment}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(made).decode()


def post(subscription: Subscription, message_id: str, told: dict[str, Any]) -> str:
    """Send it; returns what was answered. Raises AddressRefused and NotTaken. A redirect is no answer."""
    check_address(subscription.address)
    body, moment = json.dumps(told, ensure_ascii=False).encode(), int(time.time())
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(moment),
        "webhook-signature": signature(secret_of(subscription), message_id, moment, body),
    }
    try:
        with httpx.stream("POST", subscription.address, content=body, headers=headers, timeout=SECONDS) as answer:
            status = answer.status_code  # nobody reads what else it says
    except httpx.HTTPError as error:
        raise NotTaken(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        raise NotTaken(f"answered {status}", gone=status == GONE)
    return f"answered {status}"
