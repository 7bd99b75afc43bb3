"""API keys: `lab_<8 id>_<43 secret>`, shown once, kept as a SHA-256, good for one project's API."""

import hashlib
import re
import secrets
import string
from datetime import timedelta
from hmac import compare_digest

from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from labelapp.models import ApiKey, Project, User

ALPHABET = string.ascii_letters + string.digits
TOKEN = re.compile(r"lab_([A-Za-z0-9]{8})_([A-Za-z0-9_-]{43})", re.ASCII)
TOKEN_LENGTH = 56
NOTE_USE_EVERY = timedelta(minutes=1)


class KeyRefused(Exception):
    """The credentials are missing, malformed, unknown or revoked. The message never says which key was near."""


class KeyNameRefused(Exception):
    """A key needs a name that says later what it was for."""


def create_key(*, project: Project, name: str, created_by: User | None = None) -> tuple[ApiKey, str]:
    """A new key and its token, which nobody can read again. Raises KeyNameRefused."""
    name = name.strip()
    if not (1 <= len(name) <= 80 and name.isprintable()):
        raise KeyNameRefused("Name the key in 1 to 80 printable characters.")
    key_id = "".join(secrets.choice(ALPHABET) for _ in range(8))
    secret = secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        project=project, name=name, key_id=key_id, secret_sha256=digest(secret), created_by=created_by
    )
    return key, f"lab_{key_id}_{secret}"


def revoke_key(*, key: ApiKey) -> None:
    """From the next request on the key opens nothing. The first revocation's time stands."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now())


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def bearer_token(request: HttpRequest) -> str:
    """What stands after `Bearer`. Raises KeyRefused where the header is missing or another scheme."""
    header = request.META.get("HTTP_AUTHORIZATION", "")
    scheme, _, token = header[: TOKEN_LENGTH + 64].partition(" ")
    if not header:
        raise KeyRefused("No API key was sent. Send it as `Authorization: Bearer YOUR_KEY`.")
    if scheme.lower() != "bearer":
        raise KeyRefused("The Authorization header must read `Bearer YOUR_KEY`.")
    return token.strip()


def key_query(token: str):
    """The row a token points at. Raises KeyRefused, before any query, for what cannot be a token."""
    if not (parts := TOKEN.fullmatch(token)):
        raise KeyRefused("The API key is not valid.")
    return ApiKey.objects.filter(key_id=parts[1]).select_related("project")


def check_secret(key: ApiKey | None, token: str) -> ApiKey:
    """The key, if the token's secret is its own. Raises KeyRefused. Unknown ids cost the same comparison."""
    expected = key.secret_sha256 if key else "0" * 64
    if not compare_digest(expected, digest(token[13:])) or key is None or key.revoked_at:
        raise KeyRefused("The API key is not valid.")
    return key


def verify(token: str) -> ApiKey:
    """The key behind a token. Raises KeyRefused."""
    key = check_secret(key_query(token).first(), token)
    if use_is_due(key):
        note_use(key).update(last_used_at=Now())
    return key


async def averify(token: str) -> ApiKey:
    """`verify` for async views."""
    key = check_secret(await key_query(token).afirst(), token)
    if use_is_due(key):
        await note_use(key).aupdate(last_used_at=Now())
    return key


def use_is_due(key: ApiKey) -> bool:
    """Writing on every request would turn reads into writes; a minute is close enough for a person."""
    return key.last_used_at is None or timezone.now() - key.last_used_at >= NOTE_USE_EVERY


def note_use(key: ApiKey):
    return ApiKey.objects.filter(pk=key.pk)


class KeyHolder:
    """Who asks when a program asks: no account, one project."""

    is_authenticated = is_active = True
    is_anonymous = is_staff = is_superuser = False
    pk = id = None

    def __init__(self, key: ApiKey) -> None:
        self.key, self.project = key, key.project

    def __str__(self) -> str:
        return f"key {self.key.key_id}"


class ApiKeyAuthentication(BaseAuthentication):
    """For REST views: request.user is a KeyHolder and request.auth the ApiKey, whose project bounds every query."""

    def authenticate(self, request):
        if not request.META.get("HTTP_AUTHORIZATION"):
            return None
        try:
            key = verify(bearer_token(request))
        except KeyRefused as error:
            raise AuthenticationFailed(str(error), code="invalid_api_key") from error
        return KeyHolder(key), key

    def authenticate_header(self, request) -> str:
        return 'Bearer realm="labelapp"'
