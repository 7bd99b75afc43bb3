"""What a reviewer can do with somebody's judgment: accept it, correct it by a revision, or return it with a comment."""

from collections.abc import Callable
from uuid import UUID

from django.db import transaction
from django.utils.translation import gettext

from labelapp.labeling.actions import replace_judgment
from labelapp.labeling.answers import Answer, body_hash
from labelapp.labeling.quality.reask import return_to_labeler
from labelapp.labeling.refusals import AlreadyReviewed, NotAnAnswer, NotYours, Superseded
from labelapp.labeling.words import said_of
from labelapp.models import Judgment, Project, Review, Slot

Verdict = Review.Verdict
LONGEST_COMMENT = 2000


@transaction.atomic
def accept(*, project: Project, reviewer, judgment_id: int) -> Review:
    """Say that the answer is right. Raises what take() does."""
    judgment, review = take(project, reviewer, judgment_id, Verdict.ACCEPTED)
    return review or Review.objects.create(judgment=judgment, reviewer=reviewer, verdict=Verdict.ACCEPTED)


@transaction.atomic
def send_back(*, project: Project, reviewer, judgment_id: int, comment: str) -> Review:
    """Ask the labeler to answer again, and say why. Raises NotAnAnswer, CannotAskAgain and what take() does."""
    comment = comment.strip()
    if not comment or len(comment) > LONGEST_COMMENT:
        raise NotAnAnswer(
            gettext("Say in 1 to %(LONGEST_COMMENT)s characters what the labeler should look at again.")
            % {"LONGEST_COMMENT": LONGEST_COMMENT}
        )
    same = lambda review: review.comment == comment  # noqa: E731
    judgment, review = take(project, reviewer, judgment_id, Verdict.RETURNED, same)
    if review:
        return review
    return_to_labeler(judgment, comment)
    return Review.objects.create(judgment=judgment, reviewer=reviewer, verdict=Verdict.RETURNED, comment=comment)


@transaction.atomic
def correct(
    *, project: Project, reviewer, judgment_id: int, submission_id: UUID, answer: Answer, comment: str = ""
) -> Review:
    """Put the reviewer's own answer in the place of the labeler's; both stay, the new one stands.

    Raises NotAnAnswer, NotYours where the reviewer has an answer of their own to this item (it counts already), and
    what take() does.
    """
    same = lambda review: review.correction.submission_id == submission_id  # noqa: E731
    judgment, review = take(project, reviewer, judgment_id, Verdict.CORRECTED, same)
    if review:
        return review
    if answer == said_of(judgment):
        raise NotAnAnswer(gettext("This is what the labeler said. Accept it, or change something first."))
    if Judgment.objects.standing().filter(comparison=judgment.comparison_id, labeler=reviewer).exists():
        raise NotYours(
            gettext("You have an answer of your own to this item, which counts. Accept this one, or return it.")
        )
    body = body_hash(answer, corrects=judgment.pk, labeler=reviewer.pk)
    new = replace_judgment(judgment, labeler=reviewer, submission_id=submission_id, body=body, answer=answer)
    return Review.objects.create(
        judgment=judgment, reviewer=reviewer, verdict=Verdict.CORRECTED, correction=new,
        comment=comment.strip()[:LONGEST_COMMENT],
    )  # fmt: skip


def reviewable(project: Project, reviewer):
    """What people said here and somebody else may look at: no pairs implied by rewrites, and no corrections."""
    said = Judgment.objects.filter(
        comparison__project=project, labeler__isnull=False, implied_by=None, withdrawn=False, correction_of=None
    )
    return said.exclude(labeler=reviewer)


def take(
    project: Project, reviewer, judgment_id: int, verdict: str, same: Callable[[Review], bool] = lambda review: True
) -> tuple[Judgment, Review | None]:
    """The judgment, and the same review by the same person where it was made already: a double click.

    Nobody can revise, withdraw or review the judgment until the transaction ends: whatever replaces it refers to its
    row, which is locked.

    Raises:
        NotYours: it is the reviewer's own, or none of the project's. AlreadyReviewed: by somebody else, or otherwise.
        Superseded: something newer stands in its place.
    """
    judgment = reviewable(project, reviewer).select_for_update(of=("self",)).filter(pk=judgment_id).first()
    if judgment is None:
        raise NotYours(
            gettext("Judgment #%(judgment_id)s is not one that you can review: it is your own, or of no item here.")
            % {"judgment_id": judgment_id}
        )
    if review := Review.objects.filter(judgment=judgment).select_related("correction").first():
        if review.reviewer_id == reviewer.pk and review.verdict == verdict and same(review):
            return judgment, review
        raise AlreadyReviewed(
            gettext("Judgment #%(judgment_id)s has been %(verdict)s already. Look at the next one.")
            % {"judgment_id": judgment_id, "verdict": review.verdict}
        )
    if newer := Judgment.objects.filter(replaces=judgment).first():
        what = "withdrawn" if newer.withdrawn else f"replaced by #{newer.pk}: look at the newer one"
        raise Superseded(
            gettext("Judgment #%(judgment_id)s has meanwhile been %(what)s.")
            % {"judgment_id": judgment_id, "what": what}
        )
    if judgment.slot and judgment.slot.state != Slot.State.DONE:
        raise Superseded(
            gettext("Judgment #%(judgment_id)s is with its labeler again. Wait for the new answer.")
            % {"judgment_id": judgment_id}
        )
    return judgment, None
