"""What keeps judgments honest, and what each of them sets off: one more place, a repeat, gold, the quiz's end."""

from django.utils.crypto import salted_hmac

from labelapp.labeling.quality.agreement import compares
from labelapp.labeling.quality.gold import CHECKS, hand_gold, outcome_of
from labelapp.labeling.quality.overlap import add_place_on_disagreement
from labelapp.labeling.quality.quiz import finish_quiz
from labelapp.labeling.quality.reask import VOTES
from labelapp.labeling.quality.repeats import drop_repeat, plan_repeat
from labelapp.models import Judgment, Project, Slot


def after_judgment(judgment: Judgment, project: Project | None) -> None:
    """What follows from a judgment, in its own transaction. judgment has the slot's `purpose` and `project_id` too.

    Gives it its `outcome`: what to tell the labeler, or None. Where nothing is drawn, this costs no statement.
    """
    judgment.outcome = None
    if judgment.purpose in CHECKS:
        _after_check(judgment)
    elif project and judgment.purpose in VOTES:
        _after_vote(judgment, project)


def _after_check(judgment: Judgment) -> None:
    judgment.outcome = outcome_of(judgment)
    if judgment.purpose == Slot.Purpose.QUIZ:
        finish_quiz(judgment)


def _after_vote(judgment: Judgment, project: Project) -> None:
    if project.max_overlap:
        add_place_on_disagreement(judgment.comparison_id, project)
    if judgment.purpose or judgment.surplus:
        return
    if not judgment.replaces_id and is_drawn("gold", judgment, gold_chance(project.gold_share)):
        hand_gold(project, judgment.labeler_id)
    if compares(judgment) and is_drawn("repeat", judgment, project.repeat_share):
        plan_repeat(judgment)


def gold_chance(share: float) -> float:
    """How often an item of work must bring a gold one for gold to be this share of all items."""
    return share / (1 - share)


def after_revision(judgment: Judgment) -> None:
    """A revision may disagree where the answer before it did not."""
    project = judgment.comparison.project
    if project.max_overlap and not (judgment.slot and judgment.slot.purpose not in VOTES):
        add_place_on_disagreement(judgment.comparison_id, project)


def after_undo(judgment: Judgment) -> None:
    """What was withdrawn is not repeated."""
    drop_repeat(judgment)


def is_drawn(what: str, judgment: Judgment, share: float) -> bool:
    """Whether this is one of the share that is drawn."""
    return share > 0 and drawn(what, judgment) < share


def drawn(what: str, judgment: Judgment) -> float:
    """A number from 0 to 1 that nobody outside can foresee, the same for this person and item each time.

    So an undo and another answer draw no second time, and no statement is needed to remember the draw.
    """
    about = f"{what}/{judgment.comparison_id}/{judgment.labeler_id}"
    digest = salted_hmac("labelapp.labeling.quality.hooks", about, algorithm="sha256").digest()
    return int.from_bytes(digest[:8]) / 2**64
