"""The served policy and another version of the engine, live: real models in the engine's own process."""

import asyncio
from uuid import uuid4

import pytest

from labelapp.chat.draw import candidates
from labelapp.chat.run import run_to_end
from labelapp.chat.vote import vote
from labelapp.labeling.answers import Answer
from labelapp.models import Comparison
from labelapp.rounds.promote import deployment_of, is_loaded, promote
from tests.chat.conftest import PAIR, ask_under, begin, chat
from tests.factories import make_project, make_user
from tests.servers import wait_until
from tests.serving.live.conftest import tiny_version

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_versions_of_the_engine_answer_and_are_named_as_authors(engine_process, tmp_path, labeler):
    admin = make_user()
    project = make_project("held", labeler=labeler, admin=admin)
    ask_under(project, PAIR)
    versions = [tiny_version(project, tmp_path, seed) for seed in (1, 2)]
    promote(deployment=deployment_of(project), version=versions[0], by=admin, reason="a test", seen_epoch=0)
    wait_until(lambda: all(map(is_loaded, versions)), what="both versions in the engine")
    assert candidates(project) == versions

    turn = chat(project, labeler, "Argue that books are better than television.")
    assert (turn.state, turn.error) == ("ready", "")
    assert {side.version for side in turn.sides.all()} == set(versions)
    seen = [len(side.text) for side in turn.sides.all()]
    membership = project.memberships.get(user=labeler)
    vote(turn_id=turn.pk, membership=membership, submission_id=uuid4(), answer=Answer(strength=1), seen=seen)
    texts = {completion.version: completion.text for completion in Comparison.objects.get().ordered_completions()}
    assert texts == {side.version: side.text for side in turn.sides.all()}

    second = begin(project, labeler, "Go on. " * 1000)  # more than their context holds
    asyncio.run(run_to_end(second.pk))
    second.refresh_from_db()
    assert second.state == "failed" and "too long" in second.error
