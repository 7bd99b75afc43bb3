"""Statements that a connection plans once."""

import pytest
from django.db import connection

from labelapp.models import Slot
from labelapp.models.prepared import as_instance, columns, numbered, read_rows
from tests.factories import make_comparison


def test_names_become_numbers_in_order_and_a_name_that_comes_again_keeps_its_number():
    assert numbered("SELECT %(b)s, %(a)s, %(b)s::int, 5 % 2") == (b"SELECT $1, $2, $1::int, 5 % 2", ["b", "a"])


@pytest.mark.django_db
def test_the_server_keeps_one_plan_whatever_the_size_of_the_numbers():
    for number in (1, 70_000, 5_000_000_000):
        assert read_rows("SELECT %(number)s AS twice_read", {"number": number}) == [{"twice_read": number}]
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%%twice_read%%'")
        assert cursor.fetchone() == (1,)


def test_a_row_becomes_an_instance_that_can_be_used_like_any_other(project):
    slot = make_comparison(project).slots.get()
    row, = read_rows(f"SELECT {columns(Slot, 's')}, 7 AS more FROM labelapp_slot s WHERE id = %(id)s", {"id": slot.pk})
    read = as_instance(Slot, row)
    assert (read, read.more, read.comparison, read.get_deferred_fields()) == (slot, 7, slot.comparison, set())
    assert [getattr(read, f.attname) for f in Slot._meta.concrete_fields] == [
        getattr(slot, f.attname) for f in Slot._meta.concrete_fields
    ]
