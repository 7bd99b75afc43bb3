"""Statements that a connection plans once: planning the claim takes the server longer than running it."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.utils import CursorWrapper
from django.db.models.base import ModelState
from psycopg import RawCursor
from psycopg.types.numeric import Int8

M = TypeVar("M", bound=models.Model)
NAMES: dict[bytes, list[str]] = {}


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
        columns = names_of(statement, cursor)
        return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]


def planned_once() -> CursorWrapper:
    """What connection.cursor() does, with a cursor of ours; to have it make one of its own first costs time."""
    connection = connections[DEFAULT_DB_ALIAS]  # django.db.connection would look for it at each of its attributes
    connection.close_if_health_check_failed()
    connection.ensure_connection()
    connection.validate_thread_sharing()
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with connection.wrap_database_errors:
        return wrap(PlannedOnce(connection.connection))


def names_of(statement: bytes, cursor: CursorWrapper) -> list[str]:
    """The columns of the statement's result, which stay the same: read once a process."""
    if statement not in NAMES:
        NAMES[statement] = [column.name for column in cursor.description]
    return NAMES[statement]


def columns(model: type[models.Model], table: str, prefix: str = "") -> str:
    """The model's columns of a table in a SELECT, each named prefix and column."""
    return ", ".join(f'{table}."{f.column}" AS "{prefix}{f.column}"' for f in model._meta.concrete_fields)


def as_instance(model: type[M], row: Mapping[str, Any], prefix: str = "") -> M:
    """The row as an instance of the model, with whatever else the row has as attributes; for plain types, not JSON."""
    instance = model.__new__(model)  # from_db() and __init__ would go through the fields, and the row has them all
    instance._state = ModelState()
    instance._state.adding, instance._state.db = False, DEFAULT_DB_ALIAS
    vars(instance).update({short: row[name] for name, short in _prefixed(tuple(row), prefix)} if prefix else row)
    return instance


@lru_cache(maxsize=64)
def _prefixed(names: tuple[str, ...], prefix: str) -> list[tuple[str, str]]:
    return [(name, name.removeprefix(prefix)) for name in names if name.startswith(prefix)]
