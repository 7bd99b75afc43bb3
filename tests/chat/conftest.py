import asyncio
from uuid import uuid4

import pytest

from labelapp.chat.actions import start_turn
from labelapp.chat.run import run_to_end
from labelapp.labeling.protocol import Criterion, Protocol
from labelapp.models import ChatTurn, ProtocolVersion, UpstreamModel
from tests.chat.upstream import Upstream
from tests.factories import make_project, make_user

PAIR = Protocol(chat=True)
SLIDERS = Protocol(
    chat=True,
    form="rating",
    question="How good is each response?",
    criteria=(Criterion("good", "How good?", kind="slider", low_word="terrible", high_word="perfect"),),
)


@pytest.fixture
def upstream():
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture
def labeler():
    return make_user("lena")


@pytest.fixture
def project(labeler, upstream):
    """A project that chats, with two upstream models called lion and raven."""
    project = make_project("talking", labeler=labeler)
    ask_under(project, PAIR)
    for name in ("lion", "raven"):
        add_model(project, upstream, name)
    return project


def ask_under(project, protocol: Protocol) -> ProtocolVersion:
    number = project.protocol_versions.count() + 1
    return ProtocolVersion.objects.create(project=project, number=number, definition=protocol.as_json())


def add_model(project, upstream, name: str, **more) -> UpstreamModel:
    return UpstreamModel.objects.create(project=project, name=name, base_url=upstream.url, model=name, **more)


def begin(project, labeler, text="Argue for tea.") -> ChatTurn:
    """A turn that nobody has generated yet."""
    membership = project.memberships.select_related("project", "user").get(user=labeler)
    return start_turn(membership=membership, key=uuid4(), text=text)


def chat(project, labeler, text="Argue for tea.") -> ChatTurn:
    """A turn, generated to its end in this process."""
    turn = begin(project, labeler, text)
    asyncio.run(run_to_end(turn.pk))
    turn.refresh_from_db()
    return turn
