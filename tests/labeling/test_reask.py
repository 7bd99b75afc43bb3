"""What comes back to its labeler: asked again by an admin, or returned by a reviewer."""

from uuid import uuid4

import pytest

from labelapp.labeling.actions import undo_last
from labelapp.labeling.claims import claim_of
from labelapp.labeling.quality.reask import made_under, reask, return_to_labeler, why_none
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import CannotAskAgain
from labelapp.labeling.skips import skip_item
from labelapp.models import GuidelineVersion, Judgment, Membership, ProtocolVersion, Slot, WorkDay
from tests.factories import make_comparison, make_project
from tests.labeling.conftest import answer, claim_and_answer, shown


@pytest.fixture
def judged(project, labeler):
    make_comparison(project)
    return claim_and_answer(project, labeler, strength=1)


def test_an_answer_that_is_asked_again_is_replaced_by_a_revision_in_the_same_place(project, labeler, judged):
    assert reask(judgments=[judged], note="Guidelines v2 see this differently.") == 1

    slot = claim_slot(project=project, labeler=labeler)
    assert (slot.pk, slot.purpose, slot.note) == (judged.slot_id, "reask", "Guidelines v2 see this differently.")
    assert Judgment.objects.standing().get() == judged  # until the new one is there

    again = answer(slot, labeler, strength=-2)
    assert again.replaces == judged
    assert Judgment.objects.standing().get() == again
    slot.refresh_from_db()
    assert (slot.state, slot.labeler) == ("done", labeler)
    assert WorkDay.objects.get().judged == 2


def test_what_comes_back_is_handed_to_nobody_else_and_comes_before_new_work(project, labeler, judged, join):
    reask(judgments=[judged], note="")
    make_comparison(project)
    assert claim_slot(project=project, labeler=join()).comparison_id != judged.comparison_id
    make_comparison(project)
    assert claim_slot(project=project, labeler=labeler).pk == judged.slot_id


def test_what_is_asked_again_is_asked_once(judged):
    assert reask(judgments=[judged], note="one") == 1
    assert reask(judgments=Judgment.objects.all(), note="two") == 0
    assert Slot.objects.get().note == "one"


def test_labels_of_one_guideline_version_are_asked_again(project, labeler, judged):
    second = GuidelineVersion.objects.create(project=project, number=2, text="New rules.")
    make_comparison(project)
    newer = claim_and_answer(project, labeler)

    assert set(made_under(second)) == {newer}
    assert reask(judgments=made_under(project.guideline_versions.get(number=1)), note="See v2.") == 1

    slot = claim_slot(project=project, labeler=labeler)
    assert slot.comparison_id == judged.comparison_id
    assert answer(slot, labeler).guideline == second
    assert not made_under(project.guideline_versions.get(number=1)).exists()


def test_what_does_not_stand_or_checks_its_labeler_is_not_asked_again(project, labeler, judged):
    Slot.objects.update(purpose="gold", reserved_for=labeler)
    assert reask(judgments=[judged], note="") == 0
    Slot.objects.update(purpose="", reserved_for=None)
    undo_last(project=project, labeler=labeler)
    assert reask(judgments=[judged], note="") == 0


def test_nobody_is_asked_who_has_left(project, labeler, judged):
    Membership.objects.filter(user=labeler).delete()
    assert reask(judgments=[judged], note="") == 0


def test_an_asking_that_asks_nobody_says_why(project, labeler, judged, join):
    everything = Judgment.objects.all()
    reask(judgments=[judged], note="See v2.")
    imported = Judgment.objects.get(pk=judged.pk)
    imported.pk, imported.slot, imported.labeler = None, None, None
    imported.submission_id, imported.external_annotator = uuid4(), "a17"
    imported.save()
    gold, leaver = make_comparison(project), join()
    gold.slots.update(purpose="gold", reserved_for=leaver)
    claim_and_answer(project, leaver)
    make_comparison(project)
    claim_and_answer(project, leaver)
    Membership.objects.filter(user=leaver).delete()
    assert reask(judgments=everything, note="Again.") == 0
    assert why_none(everything) == (
        "No answer is asked again. 1 is with its labeler already. 1 checks its labeler: gold, a swapped repeat, or the "
        "quiz. The labeler of 1 has left. 1 has no place here: imported, or given as an extra one."
    )
    assert why_none(Judgment.objects.none()) == (
        "No answer is asked again. None has been given, or none still stands."
    )


def test_a_reviewer_returns_an_answer_with_a_comment(project, labeler, judged):
    return_to_labeler(judged, "Please read response B to its end.")
    slot = claim_slot(project=project, labeler=labeler)
    assert (slot.purpose, slot.note) == ("returned", "Please read response B to its end.")
    with pytest.raises(CannotAskAgain, match=f"#{judged.pk} cannot go back"):
        return_to_labeler(judged, "Again.")


def test_a_replay_of_the_old_answer_changes_nothing(project, labeler):
    make_comparison(project)
    slot, submission = claim_slot(project=project, labeler=labeler), uuid4()
    first = answer(slot, labeler, strength=1, submission_id=submission)
    reask(judgments=[first], note="")
    assert answer(slot, labeler, strength=1, submission_id=submission) == first
    assert Slot.objects.get().state == "open"
    assert Judgment.objects.count() == 1


def test_skipping_what_comes_back_lets_the_old_answer_stand(project, labeler, judged):
    reask(judgments=[judged], note="")
    slot = claim_slot(project=project, labeler=labeler)
    skip_item(project=project, claim=shown(slot), labeler=labeler, reason="unsure")
    assert (Slot.objects.get().state, Slot.objects.get().labeler) == ("done", labeler)
    assert Judgment.objects.standing().get() == judged


def test_skipped_after_an_undo_it_is_everybodys(project, labeler, judged, join):
    reask(judgments=[judged], note="Look again.")
    answer(claim_slot(project=project, labeler=labeler), labeler, strength=2)
    back = undo_last(project=project, labeler=labeler)
    skip_item(project=project, claim=shown(back), labeler=labeler, reason="unsure")

    assert claim_slot(project=project, labeler=labeler) is None
    taken = claim_slot(project=project, labeler=join())
    assert (taken.pk, taken.purpose, taken.note, taken.reserved_for) == (back.pk, "", "", None)


def test_pairs_from_a_rewrite_do_not_outlive_the_answer_that_it_belonged_to(labeler):
    project = make_project("rewriting", labeler=labeler)
    definition = project.protocol_versions.get().definition | {"rewrite": "optional"}
    ProtocolVersion.objects.create(project=project, number=2, definition=definition)
    make_comparison(project)
    first = claim_and_answer(project, labeler, strength=1, rewrite="Better than both.")
    assert first.implies.count() == 2

    reask(judgments=[first], note="")
    answer(claim_slot(project=project, labeler=labeler), labeler, strength=1)

    standing = Judgment.objects.standing()
    assert not standing.filter(implied_by=first).exists()
    assert standing.count() == 1


def test_the_page_says_why_an_item_comes_back(client, project, labeler, judged):
    reask(judgments=[judged], note="Mind the <b>sources</b>.")
    client.force_login(labeler)
    page = client.get(f"/p/{project.slug}/label/").content.decode()
    assert "This item comes back to you" in page
    assert "Mind the &lt;b&gt;sources&lt;/b&gt;." in page


def test_the_form_of_somebody_else_does_not_answer_what_comes_back(project, labeler, judged, join):
    reask(judgments=[judged], note="")
    slot = Slot.objects.get()
    other = join()
    assert answer(slot, other, claim=claim_of(slot, protocol_id=judged.protocol_id), strength=1).surplus
    assert Slot.objects.get().state == "open"
