"""Reviews: what waits for whom and why, the three verdicts, and who may."""

import threading
from uuid import uuid4

import pytest
from django.db import connections
from django.utils import translation

from labelapp.labeling.actions import last_judgment, revisable, revise, undo_last
from labelapp.labeling.answers import Answer
from labelapp.labeling.quality.reask import reask
from labelapp.labeling.queue import claim_slot
from labelapp.labeling.refusals import AlreadyReviewed, NotAnAnswer, NothingToUndo, NotYours, Superseded
from labelapp.labeling.reviews import queue as review_queue
from labelapp.labeling.reviews.actions import accept, correct, send_back
from labelapp.labeling.reviews.queue import next_review
from labelapp.models import Judgment, Review, Slot
from tests.factories import make_comparison, make_project
from tests.labeling.conftest import answer, claim_and_answer
from tests.site.languages import CODE, speak_made_up

LONG = "A response that takes a while to read. " * 40


@pytest.fixture
def reviewer(join):
    return join("rita", role="reviewer")


@pytest.fixture
def judgment(project, labeler):
    make_comparison(project)
    return claim_and_answer(project, labeler, strength=2, rationale="Clearer.")


def waiting(project, reviewer, **more):
    return next_review(project=project, reviewer=reviewer, **more)


def share(project, value):
    project.review_share = value
    project.save()


def given(judgment, reviewer, what=accept, **more):
    return what(project=judgment.comparison.project, reviewer=reviewer, judgment_id=judgment.pk, **more)


def corrected(judgment, reviewer, submission_id=None, **said):
    said = Answer(**(said or {"strength": -1}))
    return given(judgment, reviewer, correct, submission_id=submission_id or uuid4(), answer=said)


# What waits


def test_nothing_waits_where_no_share_is_drawn_and_nothing_looks_wrong(project, reviewer, judgment):
    assert waiting(project, reviewer) is None


def test_everything_waits_where_all_is_drawn_but_not_for_its_own_author(project, reviewer, judgment, labeler):
    share(project, 1)
    found = waiting(project, reviewer)
    assert (found.judgment_id, found.waiting, found.reasons) == (judgment.pk, 1, ["It was drawn at random."])
    assert waiting(project, labeler) is None


def test_the_draw_takes_about_the_share_and_always_the_same(project, labeler, reviewer):
    for _ in range(40):
        make_comparison(project)
        claim_and_answer(project, labeler)

    def drawn():
        past = []
        while found := waiting(project, reviewer, past=past):
            past.append(found.judgment_id)
        return set(past)

    share(project, 0.5)
    half = drawn()
    assert 8 <= len(half) <= 32
    assert drawn() == half
    share(project, 0.9)
    assert drawn() > half


def test_each_reviewer_has_an_order_of_their_own(project, labeler, join):
    share(project, 1)
    for _ in range(12):
        make_comparison(project)
        claim_and_answer(project, labeler)
    firsts = {waiting(project, join(role="reviewer")).judgment_id for _ in range(6)}
    assert len(firsts) > 1


def test_a_missed_known_answer_waits(project, labeler, reviewer):
    for gold in ([[0], [1]], [[1], [0]]):
        make_comparison(project, gold=gold)
    right, wrong = sorted(
        (claim_and_answer(project, labeler, ranking=[[0], [1]]) for _ in range(2)),
        key=lambda judgment: judgment.ranking[0] != judgment.comparison.gold[0],
    )
    found = waiting(project, reviewer)
    assert (found.judgment_id, found.missed, found.waiting) == (wrong.pk, True, 1)
    assert right.pk != wrong.pk


@pytest.mark.parametrize(("gold", "said", "missed"), [
    ({"both_bad": True}, {"both_bad": True}, False),
    ({"both_bad": True}, {"strength": 1}, True),
    ([[0], [1]], {"both_bad": True}, True),
    ([[0, 1]], {"strength": 0}, False),
])  # fmt: skip
def test_a_known_answer_may_be_both_bad_or_a_tie(project, labeler, reviewer, gold, said, missed):
    make_comparison(project, gold=gold)
    claim_and_answer(project, labeler, **said)
    assert bool(waiting(project, reviewer)) is missed


@pytest.mark.parametrize(("seconds", "hasty"), [(3.0, True), (60.0, False), (None, False)])
def test_what_was_answered_faster_than_anybody_reads_waits(project, labeler, reviewer, seconds, hasty):
    make_comparison(project, LONG, LONG + "Or not.")
    claim_and_answer(project, labeler, strength=1, active_seconds=seconds)
    assert bool(waiting(project, reviewer)) is hasty


def test_whoever_stands_alone_waits_and_the_others_do_not(project, labeler, reviewer, join):
    make_comparison(project, overlap=3)
    for person in (labeler, join()):
        slot = claim_slot(project=project, labeler=person)
        answer(slot, person, strength=1 if slot.display_order == [0, 1] else -1)
    assert waiting(project, reviewer) is None
    slot = claim_slot(project=project, labeler=(third := join()))
    alone = answer(slot, third, strength=-3 if slot.display_order == [0, 1] else 3)
    found = waiting(project, reviewer)
    assert (found.judgment_id, found.alone, found.waiting) == (alone.pk, True, 1)


def test_a_reviewer_is_not_shown_what_they_judged_themselves(project, labeler, reviewer, judgment):
    share(project, 1)
    Slot.objects.create(comparison=judgment.comparison, project=project, number=5, shuffle_key=1, display_order=[0, 1])
    claim_and_answer(project, reviewer)
    assert waiting(project, reviewer) is None


def test_a_reviewer_is_not_handed_what_they_have_reviewed(project, reviewer, judgment):
    given(judgment, reviewer)
    Slot.objects.create(comparison=judgment.comparison, project=project, number=5, shuffle_key=1, display_order=[0, 1])
    assert claim_slot(project=project, labeler=reviewer) is None


def test_what_is_withdrawn_replaced_reviewed_or_passed_over_does_not_wait(project, labeler, reviewer, judgment):
    share(project, 1)
    assert waiting(project, reviewer, past=[judgment.pk]) is None
    newer = revise(
        project=project, labeler=labeler, judgment_id=judgment.pk, submission_id=uuid4(), answer=Answer(strength=3)
    )
    assert waiting(project, reviewer).judgment_id == newer.pk
    given(newer, reviewer)
    assert waiting(project, reviewer) is None


def test_only_the_latest_of_each_labeler_wait(project, labeler, reviewer, join, monkeypatch):
    share(project, 1)
    monkeypatch.setattr(review_queue, "LATEST", 1)
    made = []
    for who in (labeler, labeler, join()):
        make_comparison(project)
        made.append(claim_and_answer(project, who).pk)
    first = waiting(project, reviewer)
    second = waiting(project, reviewer, past=[first.judgment_id])
    assert {first.judgment_id, second.judgment_id} == set(made[1:])
    assert waiting(project, reviewer, past=made[1:]) is None


def test_other_projects_are_other_queues(project, reviewer, judgment):
    share(project, 1)
    other = make_project(reviewer=reviewer)
    share(other, 1)
    assert waiting(other, reviewer) is None


# Verdicts


def test_an_accepted_judgment_stands_and_a_double_click_changes_nothing(reviewer, judgment):
    review = given(judgment, reviewer)
    assert given(judgment, reviewer) == review
    assert (review.verdict, Judgment.objects.standing().get()) == ("accepted", judgment)


def test_a_correction_is_a_revision_by_the_reviewer(project, labeler, reviewer, judgment):
    submission = uuid4()
    review = corrected(judgment, reviewer, submission, strength=-1)
    assert corrected(judgment, reviewer, submission, strength=-1) == review
    new = Judgment.objects.standing().get()
    assert (new, new.labeler, new.replaces) == (review.correction, reviewer, judgment)
    assert new.display_order == judgment.display_order


def test_the_same_answer_is_no_correction(reviewer, judgment):
    with pytest.raises(NotAnAnswer, match="Accept it, or change something"):
        corrected(judgment, reviewer, strength=2, rationale="Clearer.")


def test_a_corrected_judgment_cannot_be_undone_or_revised_by_its_labeler(project, labeler, reviewer, judgment):
    corrected(judgment, reviewer)
    with pytest.raises(NothingToUndo, match=f"#{judgment.pk} was corrected by a reviewer"):
        undo_last(project=project, labeler=labeler)
    assert revisable(project=project, labeler=labeler) == []


def test_why_nothing_is_undone_is_one_sentence(project, labeler, reviewer, judgment, settings, tmp_path):
    corrected(judgment, reviewer)
    speak_made_up(settings, tmp_path)
    whole = r"^⟦Judgment #\d+ was [^⟦]* nothing to undo\.⟧$"
    with translation.override(CODE), pytest.raises(NothingToUndo, match=whole):
        undo_last(project=project, labeler=labeler)


def test_a_correction_is_not_the_reviewers_own_work_to_undo(project, reviewer, judgment):
    corrected(judgment, reviewer)
    assert last_judgment(project=project, labeler=reviewer) is None
    with pytest.raises(NothingToUndo):
        undo_last(project=project, labeler=reviewer)


def test_two_votes_of_one_reviewer_on_an_item_are_refused(project, labeler, reviewer, join):
    make_comparison(project, overlap=2)
    first, second = (claim_and_answer(project, person, strength=3) for person in (labeler, join()))
    corrected(first, reviewer)
    with pytest.raises(NotYours, match="an answer of your own"):
        corrected(second, reviewer)
    assert given(second, reviewer).verdict == "accepted"


def test_what_is_returned_comes_back_with_the_comment_and_the_new_answer_is_reviewed_again(
    project, labeler, reviewer, judgment
):
    review = given(judgment, reviewer, send_back, comment=" Look at the source. ")
    assert given(judgment, reviewer, send_back, comment="Look at the source.") == review
    assert waiting(project, reviewer) is None

    slot = claim_slot(project=project, labeler=labeler)
    assert (slot.note, slot.purpose) == ("Look at the source.", "returned")
    newer = answer(slot, labeler, strength=-3)
    assert newer.replaces == judgment
    found = waiting(project, reviewer)
    assert (found.judgment_id, found.again) == (newer.pk, True)


@pytest.mark.parametrize("comment", ["", "  ", "x" * 2001])
def test_a_return_says_why(reviewer, judgment, comment):
    with pytest.raises(NotAnAnswer, match="Say in 1 to 2000 characters"):
        given(judgment, reviewer, send_back, comment=comment)
    assert judgment.slot.state == "done"


def test_nobody_reviews_their_own_judgment(labeler, judgment):
    with pytest.raises(NotYours):
        given(judgment, labeler)


def test_nobody_reviews_a_judgment_of_another_project(reviewer, judgment):
    with pytest.raises(NotYours):
        accept(project=make_project(), reviewer=reviewer, judgment_id=judgment.pk)


def test_the_second_reviewer_is_told_that_there_was_a_first(reviewer, judgment, join):
    given(judgment, reviewer)
    with pytest.raises(AlreadyReviewed, match="accepted already"):
        given(judgment, join(role="reviewer"))
    with pytest.raises(AlreadyReviewed, match="accepted already"):
        given(judgment, reviewer, send_back, comment="After all not.")


def test_a_judgment_that_was_revised_meanwhile_is_not_reviewed(project, labeler, reviewer, judgment):
    newer = revise(
        project=project, labeler=labeler, judgment_id=judgment.pk, submission_id=uuid4(), answer=Answer(strength=3)
    )
    for what in (accept, lambda **about: send_back(comment="Why?", **about)):
        with pytest.raises(Superseded, match=f"replaced by #{newer.pk}: look at the newer one"):
            given(judgment, reviewer, what)
    assert not Review.objects.exists()


def test_a_judgment_that_was_undone_meanwhile_is_not_reviewed(project, labeler, reviewer, judgment):
    undo_last(project=project, labeler=labeler)
    with pytest.raises(Superseded, match="withdrawn"):
        given(judgment, reviewer)


def test_a_correction_is_not_reviewed_itself(project, reviewer, judgment, join):
    share(project, 1)
    review = corrected(judgment, reviewer)
    other = join(role="reviewer")
    assert waiting(project, other) is None
    with pytest.raises(NotYours):
        given(review.correction, other)


# Races


def at_once(*calls):
    """Run the calls in threads, each on its own connection; what each returned or raised, in their order."""
    results = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(number, call):
        barrier.wait()
        try:
            results[number] = call()
        except Exception as error:
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def test_of_eight_reviewers_at_once_one_is_first(self, project, labeler, join, judgment):
        people = [join(role="reviewer") for _ in range(8)]
        results = at_once(*(lambda person=person: given(judgment, person) for person in people))
        assert Review.objects.count() == 1
        assert sum(isinstance(result, AlreadyReviewed) for result in results) == 7

    def test_a_double_click_on_correct_makes_one_correction(self, project, reviewer, judgment):
        submission = uuid4()
        results = at_once(*[lambda: corrected(judgment, reviewer, submission)] * 6)
        assert len({result.pk for result in results}) == 1
        assert Judgment.objects.count() == 2

    def test_a_revision_while_reviewing_is_seen_or_comes_after(self, project, labeler, join, reviewer):
        for _ in range(10):
            make_comparison(project)
            judgment = claim_and_answer(project, labeler, strength=2)
            about = {"judgment_id": judgment.pk, "submission_id": uuid4(), "answer": Answer(strength=3)}
            revision, review = at_once(
                lambda about=about: revise(project=project, labeler=labeler, **about),
                lambda judgment=judgment: corrected(judgment, reviewer, strength=-1),
            )
            newest = Judgment.objects.standing().get(comparison=judgment.comparison)
            if isinstance(review, Review):
                assert newest == review.correction
                assert isinstance(revision, (Superseded, NotYours))
            else:
                assert isinstance(review, Superseded)
                assert newest == revision

    def test_an_undo_while_reviewing_leaves_one_of_both(self, project, labeler, reviewer):
        for _ in range(10):
            make_comparison(project)
            judgment = claim_and_answer(project, labeler, strength=2)
            undone, review = at_once(
                lambda: undo_last(project=project, labeler=labeler),
                lambda judgment=judgment: given(judgment, reviewer, send_back, comment="Why?"),
            )
            slot = Slot.objects.get(pk=judgment.slot_id)
            if isinstance(review, Review) and not isinstance(undone, Slot):
                assert slot.state == "open"
            answer(claim_slot(project=project, labeler=labeler), labeler)


def test_a_judgment_that_its_labeler_is_asked_about_again_is_not_reviewed(project, reviewer, judgment, join):
    share(project, 1)
    reask(judgments=[judgment], note="The guidelines changed.")
    assert waiting(project, reviewer) is None
    with pytest.raises(Superseded, match="with its labeler again"):
        given(judgment, reviewer)


def test_the_queue_forgets_what_is_too_old(project, reviewer, judgment, monkeypatch):
    share(project, 1)
    monkeypatch.setattr(review_queue, "DAYS", 0)
    assert waiting(project, reviewer) is None
