"""Django's sessions in the database, read by a statement that is planned once, and their person with them."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from django.contrib.auth import SESSION_KEY, middleware
from django.contrib.sessions.backends import db
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from labelapp.accounts.backend import ABOUT, PEOPLE, at_hand
from labelapp.models.prepared import as_instance, read_rows

FOUND = f"""
SELECT session.session_key, session.session_data, session.expire_date, {ABOUT}
FROM django_session session LEFT JOIN ({PEOPLE}) ON person.id = %(person)s
WHERE session.session_key = %(key)s AND session.expire_date > statement_timestamp()
"""
MOST = 100_000
# Whose session it was when this process last read it: only what to read along. Who is signed in, the session says.
_whose: dict[str, int] = {}


class SessionStore(db.SessionStore):
    person: Sequence[dict[str, Any]] = ()  # rows about whoever was signed in last time

    def _get_session_from_db(self):
        """The session's row; without one this visitor begins a new session."""
        rows = read_rows(FOUND, {"key": self.session_key, "person": _whose.get(self.session_key)})
        if not rows:
            self._session_key = None
            return None
        self.person = rows if rows[0]["person_id"] else ()
        return as_instance(self.model, {name: rows[0][name] for name in ("session_key", "session_data", "expire_date")})


    def decode(self, session_data: str) -> dict[str, Any]:
        return json.loads(_decoded(session_data))


@lru_cache(maxsize=4096)
def _decoded(session_data: str) -> str:
    """What a session says, as JSON: the same text says the same, so its signature is checked once a process."""
    return json.dumps(super(SessionStore, SessionStore()).decode(session_data))


class AuthenticationMiddleware(middleware.AuthenticationMiddleware):
    """Django's, with all that it checks; request.user costs no statement of its own where its session was read."""

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        request.user = SimpleLazyObject(lambda: person_of(request))


def person_of(request: HttpRequest):
    """Who is signed in, or nobody, as the session and the person's row say now."""
    session = request.session
    session.get(SESSION_KEY)  # reads the session, and what comes with it
    with at_hand(session.person):
        user = middleware.get_user(request)
    session.person = ()  # whoever asks again wants to know what is true by then
    if user.is_authenticated and session.session_key:
        _remember(session.session_key, user.pk)
    return user


def _remember(session_key: str, person: int) -> None:
    if len(_whose) >= MOST:
        _whose.clear()
    _whose[session_key] = person
