from uuid import uuid4

import pytest

from labelapp.labeling.actions import judge
from labelapp.labeling.answers import Answer
from labelapp.labeling.claims import claim_of
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


def shown(slot, **more):
    """The claim of a slot as the page would sign it, under the project's latest guidelines."""
    guideline = slot.project.guideline_versions.last()
    more.setdefault("guideline_id", guideline and guideline.pk)
    return claim_of(slot, protocol_id=slot.comparison.protocol_id, **more)


def answer(slot, labeler, **said):
    """Judge a claimed slot; strength 1 unless something else is said."""
    about = {name: said.pop(name) for name in ("active_seconds", "seen", "project") if name in said}
    submission = said.pop("submission_id", None) or uuid4()
    claim = said.pop("claim", None) or shown(slot)
    said = said or {"strength": 1}
    if "ranking" in said:
        said["ranking"] = tuple(map(tuple, said["ranking"]))
    return judge(claim=claim, labeler=labeler, submission_id=submission, answer=Answer(**said), **about)


def claim_and_answer(project, labeler, /, **said):
    return answer(claim_slot(project=project, labeler=labeler), labeler, **said)
