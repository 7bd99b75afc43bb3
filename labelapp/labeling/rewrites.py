"""What follows from an answer that a labeler wrote: a completion, and a pair with each response that it improves."""

from uuid import uuid4

from django.utils.translation import gettext

from labelapp.labeling.answers import Answer, body_hash
from labelapp.labeling.queue import create_comparisons
from labelapp.labeling.refusals import NotAnAnswer
from labelapp.models import Comparison, Completion, Judgment, text_hash

HUMAN = "human"


def imply_pairs(judgment: Judgment) -> None:
    """Store the rewrite as a completion by a human, and its author's word that it is better than what it improves.

    That is the response it started from; where it started from none, every one. A demonstration improves none.
    Raises NotAnAnswer where the text is that of a response.
    """
    if not judgment.rewrite:
        return
    comparison = Comparison.objects.select_related("project", "prompt").get(pk=judgment.comparison_id)
    responses = comparison.ordered_completions()
    written = write_completion(comparison, judgment.rewrite)
    improved = responses if judgment.rewrite_of is None else [responses[judgment.rewrite_of]]
    if written.content_hash in {response.content_hash for response in improved}:
        raise NotAnAnswer(
            gettext("Your answer is the same as the response that it should improve; change it, or leave it out.")
        )
    for response in improved:
        _imply(judgment, comparison, response, written)


def write_completion(comparison: Comparison, text: str) -> Completion:
    """The text as a completion that a human wrote; the same text is the same row."""
    row, _ = Completion.objects.get_or_create(
        prompt=comparison.prompt, content_hash=text_hash(text), version=None, author=HUMAN, defaults={"text": text}
    )
    return row


def _imply(judgment: Judgment, comparison: Comparison, response: Completion, written: Completion) -> None:
    """A pair that is judged already: nobody else is asked whether the rewrite is better."""
    pair, = create_comparisons(
        project=comparison.project, items=[(comparison.prompt, [response, written])],
        origin=Comparison.Origin.REWRITE, slots=False, checked=False,
    )  # fmt: skip
    previous = pair.judgments.filter(labeler=judgment.labeler_id).order_by("-pk").first()
    if previous and not previous.withdrawn:
        return
    Judgment.objects.create(
        comparison=pair, labeler_id=judgment.labeler_id, ranking=[[1], [0]], display_order=[0, 1],
        submission_id=uuid4(), body_hash=body_hash(Answer(), implied_by=judgment.pk), replaces=previous,
        implied_by=judgment, protocol_id=judgment.protocol_id, guideline_id=judgment.guideline_id,
        consent_id=judgment.consent_id,
    )  # fmt: skip
