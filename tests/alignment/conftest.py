"""What the trainer's tests share."""

import pytest
import torch

from alignment.config import Input
from alignment.data.text import load_tokenizer
from alignment.models.checkpoints import load_policy
from tests.tiny_models import make_tiny_policy


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def parent(tmp_path_factory):
    """A random policy of a few thousand weights, as a stage's input; nobody writes to it."""
    path = tmp_path_factory.mktemp("models") / "policy"
    return Input(path=str(path), sha256=make_tiny_policy(path))


@pytest.fixture(scope="session")
def tiny_policy(parent):
    """(directory, digest) of the same policy."""
    return parent.path, parent.sha256


@pytest.fixture
def tokenizer(parent):
    return load_tokenizer(parent.path)


@pytest.fixture
def policy(parent):
    return load_policy(parent.path)
