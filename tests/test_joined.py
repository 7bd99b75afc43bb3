"""Scripts served as one file."""

import pytest
from django.contrib.staticfiles import finders

from labelapp.joined import JOINED, JoinedFinder


@pytest.mark.parametrize("path", JOINED)
def test_a_joined_script_is_all_of_its_parts_in_their_order(path):
    parts = [open(finders.find(part)).read() for part in JOINED[path]]
    assert open(finders.find(path)).read() == "".join(parts)
    assert path in dict(JoinedFinder().list([]))


def test_what_is_not_joined_is_left_to_the_others():
    assert JoinedFinder().find("js/copy.js") == []
