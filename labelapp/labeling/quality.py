"""What keeps judgments honest: disagreement, swapped repeats, gold and the quiz."""

from labelapp.models import Judgment


def after_judgment(judgment: Judgment) -> None:
    """What follows from a judgment, in its own transaction. judgment has the slot's `purpose` and `project_id` too."""
