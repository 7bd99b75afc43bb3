"""Django's sessions in the database, read by a statement that is planned once."""

from django.contrib.sessions.backends import db

from labelapp.models.prepared import as_instance, read_rows

FOUND = """
SELECT session_key, session_data, expire_date FROM django_session
WHERE session_key = %(key)s AND expire_date > statement_timestamp()
"""


class SessionStore(db.SessionStore):
    def _get_session_from_db(self):
        """The session's row; without one this visitor begins a new session."""
        rows = read_rows(FOUND, {"key": self.session_key})
        if not rows:
            self._session_key = None
            return None
        return as_instance(self.model, rows[0])
