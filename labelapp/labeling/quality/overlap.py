"""Adaptive overlap: where people disagree, one more is asked, up to the project's maximum."""

from labelapp.labeling.quality.agreement import disagree
from labelapp.labeling.quality.gold import CHECKS
from labelapp.labeling.quality.places import add_slot, lock_comparison
from labelapp.labeling.quality.reask import VOTES
from labelapp.models import Judgment, Project, Slot


def add_place_on_disagreement(comparison_id: int, project: Project) -> Slot | None:
    """Ask one more person once every place is answered and the standing votes differ; None where there is no need.

    The comparison is locked first: of two people who disagree at the same moment, the second one sees both votes.
    """
    comparison = lock_comparison(comparison_id)
    places = list(comparison.slots.filter(purpose__in=VOTES).order_by("number"))
    if len(places) >= project.max_overlap or any(place.state != Slot.State.DONE for place in places):
        return None
    if not places or not disagree(standing_votes(comparison_id)):
        return None
    return add_slot(comparison, priority=places[-1].priority)


def standing_votes(comparison_id: int) -> list[Judgment]:
    """One standing answer a person, the latest, without those given where a labeler was checked."""
    votes = Judgment.objects.standing().filter(comparison=comparison_id).exclude(
        slot__purpose__in=CHECKS
    )  # fmt: skip
    return list({vote.annotator: vote for vote in votes.order_by("pk")}.values())
