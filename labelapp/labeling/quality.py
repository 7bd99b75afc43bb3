"""What keeps judgments honest: disagreement, swapped repeats, gold and the quiz."""

from labelapp.models import Judgment, Project


def after_judgment(judgment: Judgment, project: Project | None) -> None:
    """What follows from a judgment, in its own transaction. judgment has the slot's `purpose` and `project_id` too."""
