from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from labelapp.labeling.actions import protocol_of, undo_last
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import AlreadyJudged, ChangedBody, ForeignClaim, NotAnAnswer, NothingToUndo
from labelapp.models import GuidelineVersion, Judgment, Slot
from tests.factories import make_comparison
from tests.labeling.conftest import answer, claim_and_answer, shown


def expire(slot):
    Slot.objects.filter(pk=slot.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


@pytest.fixture
def slot(project, labeler):
    make_comparison(project)
    return claim_slot(project=project, labeler=labeler)


def test_a_judgment_closes_its_slot_and_cites_what_was_shown(project, labeler, slot):
    judgment = answer(slot, labeler, strength=-2, rationale="clearer", active_seconds=7.5)

    slot.refresh_from_db()
    assert (slot.state, slot.lease_until, slot.labeler) == ("done", None, labeler)
    assert (judgment.slot, judgment.comparison, judgment.labeler) == (slot, slot.comparison, labeler)
    assert judgment.display_order == slot.display_order
    assert judgment.guideline == project.guideline_versions.get()
    assert judgment.protocol == slot.comparison.protocol
    assert (judgment.rationale, judgment.active_seconds, judgment.surplus) == ("clearer", 7.5, False)


@pytest.mark.parametrize(("order", "strength", "ranking"), [([0, 1], -3, [[0], [1]]), ([1, 0], 3, [[1], [0]])])
def test_the_left_answer_favours_the_position_that_was_on_the_left(labeler, slot, order, strength, ranking):
    slot.display_order = order
    judgment = answer(slot, labeler, strength=-3)
    assert (judgment.strength, judgment.ranking) == (strength, ranking)


def test_four_completions_are_judged_by_a_ranking_with_ties(project, labeler):
    make_comparison(project, "one", "two", "three", "four")
    slot = claim_slot(project=project, labeler=labeler)
    slot.display_order = [2, 0, 3, 1]

    judgment = answer(slot, labeler, ranking=[[1], [0, 3], [2]])

    judgment.refresh_from_db()
    assert judgment.ranking == [[0], [1, 2], [3]]
    assert judgment.strength is None
    assert [c.text for c in judgment.comparison.ordered_completions()] == ["one", "two", "three", "four"]


def test_both_bad_is_neither_a_tie_nor_a_ranking(labeler, slot):
    judgment = answer(slot, labeler, both_bad=True)
    assert (judgment.both_bad, judgment.strength, judgment.ranking) == (True, None, None)


def test_an_answer_that_is_refused_leaves_the_slot_with_its_labeler(labeler, slot):
    with pytest.raises(NotAnAnswer, match="Strength 9 is out of range; choose between -3 and 3"):
        answer(slot, labeler, strength=9)
    slot.refresh_from_db()
    assert slot.state == "leased"
    assert not Judgment.objects.exists()


def test_a_replay_returns_the_stored_judgment(labeler, slot):
    submission = uuid4()
    first = answer(slot, labeler, strength=1, submission_id=submission)
    again = answer(slot, labeler, strength=1, submission_id=submission, active_seconds=99)
    assert again == first
    assert Judgment.objects.count() == 1


def test_a_replay_with_another_answer_is_refused_and_the_first_stands(labeler, slot):
    submission = uuid4()
    first = answer(slot, labeler, strength=1, submission_id=submission)
    with pytest.raises(ChangedBody, match="saved already with another answer"):
        answer(slot, labeler, strength=2, submission_id=submission)
    assert Judgment.objects.standing().get() == first


def test_a_submission_id_of_somebody_else_shows_nothing_of_theirs(project, labeler, slot, join):
    submission = uuid4()
    answer(slot, labeler, strength=1, submission_id=submission)
    make_comparison(project)
    other = join()
    with pytest.raises(ChangedBody):
        answer(claim_slot(project=project, labeler=other), other, strength=1, submission_id=submission)
    assert Judgment.objects.count() == 1


def test_a_second_answer_is_refused_and_the_first_stands(labeler, slot):
    first = answer(slot, labeler, strength=1)
    with pytest.raises(AlreadyJudged, match=f"#{first.pk}"):
        answer(slot, labeler, strength=2)
    assert Judgment.objects.get() == first


def test_a_late_answer_counts_while_nobody_took_the_slot(labeler, slot):
    expire(slot)
    judgment = answer(slot, labeler)
    assert not judgment.surplus
    slot.refresh_from_db()
    assert slot.state == "done"


def test_a_late_answer_is_kept_beside_that_of_whoever_took_the_slot(project, labeler, slot, join):
    expire(slot)
    other = join()
    taken = claim_slot(project=project, labeler=other)

    late = answer(slot, labeler)
    in_time = answer(taken, other)

    assert (late.surplus, in_time.surplus) == (True, False)
    assert late.display_order == slot.display_order
    taken.refresh_from_db()
    assert (taken.state, taken.labeler) == ("done", other)


def test_whoever_answered_late_is_not_asked_again(project, labeler, slot, join):
    expire(slot)
    claim_slot(project=project, labeler=join())
    answer(slot, labeler)
    with pytest.raises(AlreadyJudged):
        answer(slot, labeler)
    Slot.objects.update(state="open", labeler=None, lease_until=None, claim_token=None)
    assert claim_slot(project=project, labeler=labeler) is None


def test_a_claim_that_a_newer_one_replaced_is_refused(labeler, slot):
    Slot.objects.filter(pk=slot.pk).update(claim_token=uuid4())
    with pytest.raises(ForeignClaim, match="Reload the page"):
        answer(slot, labeler)


def test_the_guidelines_that_were_shown_are_cited(project, labeler, slot):
    before, claim = project.guideline_versions.get(), shown(slot)
    GuidelineVersion.objects.create(project=project, number=2, text="New rules.")
    assert answer(slot, labeler, claim=claim, strength=1).guideline == before


def test_undo_withdraws_the_judgment_and_hands_the_item_back(project, labeler, slot):
    first = answer(slot, labeler)

    back = undo_last(project=project, labeler=labeler)

    assert (back.pk, back.state, back.labeler) == (slot.pk, "leased", labeler)
    assert back.claim_token != slot.claim_token
    withdrawal = Judgment.objects.get(replaces=first)
    assert (withdrawal.withdrawn, withdrawal.ranking, withdrawal.strength) == (True, None, None)
    assert not Judgment.objects.standing().exists()


def test_what_was_undone_comes_before_the_item_that_was_next(project, labeler, slot):
    answer(slot, labeler)
    make_comparison(project)
    following = claim_slot(project=project, labeler=labeler)

    undo_last(project=project, labeler=labeler)

    again = claim_slot(project=project, labeler=labeler)
    assert again.pk == slot.pk
    answer(again, labeler)
    assert claim_slot(project=project, labeler=labeler).pk == following.pk


def test_judging_again_replaces_the_withdrawal(project, labeler, slot):
    first = answer(slot, labeler, strength=1)
    back = undo_last(project=project, labeler=labeler)
    second = answer(back, labeler, strength=-1)

    assert second.replaces.replaces == first
    assert Judgment.objects.standing().get() == second
    assert Judgment.objects.count() == 3


def test_an_old_form_that_is_sent_again_after_an_undo_changes_nothing(project, labeler, slot):
    submission = uuid4()
    first = answer(slot, labeler, strength=1, submission_id=submission)
    back = undo_last(project=project, labeler=labeler)
    for token in (slot, back):  # the old form, and the old submission under the new claim
        assert answer(token, labeler, strength=1, submission_id=submission) == first
    back.refresh_from_db()
    assert back.state == "leased"


def test_only_the_last_judgment_can_be_undone_and_only_once(project, labeler, slot):
    answer(slot, labeler)
    undo_last(project=project, labeler=labeler)
    with pytest.raises(NothingToUndo):
        undo_last(project=project, labeler=labeler)


def test_nobody_undoes_the_judgment_of_somebody_else(project, labeler, slot, join):
    answer(slot, labeler)
    with pytest.raises(NothingToUndo):
        undo_last(project=project, labeler=join())


def test_undoing_a_surplus_judgment_leaves_the_slot_with_its_holder(project, labeler, slot, join):
    expire(slot)
    other = join()
    claim_slot(project=project, labeler=other)
    answer(slot, labeler)
    assert undo_last(project=project, labeler=labeler) is None
    slot.refresh_from_db()
    assert (slot.state, slot.labeler) == ("leased", other)


def test_the_database_refuses_to_change_or_delete_a_judgment(labeler, slot):
    judgment = answer(slot, labeler)
    for change in (lambda: Judgment.objects.update(strength=0), judgment.delete):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            change()


def test_the_database_refuses_a_second_first_judgment_of_one_person(labeler, slot):
    judgment = answer(slot, labeler)
    with pytest.raises(IntegrityError, match="one_first_judgment_per_labeler"), transaction.atomic():
        Judgment.objects.create(
            comparison=judgment.comparison, labeler=labeler, protocol=judgment.protocol, submission_id=uuid4(),
            ranking=[[0, 1]],
        )


def test_a_judgment_costs_one_statement(labeler, slot, django_assert_num_queries):
    claim = shown(slot)
    protocol_of(claim.protocol_id)
    with django_assert_num_queries(1):
        answer(slot, labeler, claim=claim)


def test_two_people_judge_the_same_comparison_without_seeing_one_another(project, labeler, join):
    make_comparison(project, overlap=2)
    mine, theirs = claim_and_answer(project, labeler), claim_and_answer(project, join())
    assert mine.comparison == theirs.comparison
    assert mine.slot != theirs.slot
    assert mine.display_order == theirs.display_order[::-1]
