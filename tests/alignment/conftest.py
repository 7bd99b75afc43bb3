"""What the trainer's tests share."""

import pytest

from alignment.config import Input
from tests.tiny_models import make_tiny_policy


@pytest.fixture(scope="session")
def parent(tmp_path_factory):
    """A random policy of a few thousand weights, as a stage's input."""
    path = tmp_path_factory.mktemp("models") / "policy"
    return Input(path=str(path), sha256=make_tiny_policy(path))
