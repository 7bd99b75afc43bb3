"""Statements that a connection plans once: planning the claim takes the server longer than running it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection, models
from django.db.backends.utils import CursorWrapper
from psycopg import RawCursor
from psycopg.rows import dict_row
from psycopg.types.numeric import Int8

M = TypeVar("M", bound=models.Model)


class PlannedOnce(RawCursor):
    """A cursor that has the server keep its statement and plan for as long as the connection lives."""

    def execute(self, query, params=None, **options):
        return super().execute(query, params, prepare=True, **options)

    def _send_query_prepared(self, name, pgq, **options):
        self._query = pgq  # what Django's log of queries shows
        super()._send_query_prepared(name, pgq, **options)


@lru_cache(maxsize=64)
def numbered(query: str) -> tuple[bytes, list[str]]:
    """The statement with $1 for the first %(name)s, and the names in order; psycopg would read a long one anew."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", query)))
    return re.sub(r"%\((\w+)\)s", lambda found: f"${names.index(found[1]) + 1}", query).encode(), names


def read_rows(query: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a statement that names the columns of its result.

    A kept plan whose result is `*` would fail once a migration adds a column.
    """
    statement, names = numbered(query)
    # Whole numbers all of one width: Postgres keeps a plan for each combination of types.
    ordered = [Int8(values[name]) if type(values[name]) is int else values[name] for name in names]
    with planned_once() as cursor:
        cursor.execute(statement, ordered)
        return cursor.fetchall()


def planned_once() -> CursorWrapper:
    """What connection.cursor() does, with a cursor of ours; to have it make one of its own first costs time."""
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_thread_sharing()
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with connection.wrap_database_errors:
        return wrap(PlannedOnce(connection.connection, row_factory=dict_row))


def columns(model: type[models.Model], table: str, prefix: str = "") -> str:
    """The model's columns of a table in a SELECT, each named prefix and column."""
    return ", ".join(f'{table}."{f.column}" AS "{prefix}{f.column}"' for f in model._meta.concrete_fields)


def as_instance(model: type[M], row: Mapping[str, Any], prefix: str = "") -> M:
    """The row as an instance of the model, with whatever else the row has as attributes; for plain types, not JSON."""
    instance = model.from_db(connection.alias, (), ())
    if prefix:
        row = {name[len(prefix) :]: value for name, value in row.items() if name.startswith(prefix)}
    vars(instance).update(row)
    return instance
