from uuid import uuid4

import pytest

from labelapp.labeling.actions import judge
from labelapp.labeling.queue import claim_slot
from tests.factories import add_member, make_project, make_user


@pytest.fixture
def labeler(db):
    return make_user("lena")


@pytest.fixture
def project(labeler):
    return make_project("convincing", labeler=labeler)


@pytest.fixture
def join(project):
    """A new labeler of the project."""

    def join(name=None, role="labeler"):
        user = make_user(name)
        add_member(project, user, role)
        return user

    return join


def answer(slot, labeler, **said):
    """Judge a claimed slot; strength 1 unless something else is said."""
    said = said or {"strength": 1}
    submission = said.pop("submission_id", None) or uuid4()
    return judge(
        slot_id=slot.pk, labeler=labeler, claim_token=slot.claim_token, submission_id=submission, **said
    )


def claim_and_answer(project, labeler, **said):
    return answer(claim_slot(project=project, labeler=labeler), labeler, **said)
