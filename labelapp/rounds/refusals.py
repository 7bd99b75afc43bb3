"""What a launch is refused for. The message is a sentence; `field` names the input of the form it concerns."""


class LaunchRefused(Exception):
    """The round cannot be launched as asked."""

    field = ""


class BudgetRefused(LaunchRefused):
    """The project's budget of this month does not hold this round, or nobody knows whether it does."""


class DiskRefused(LaunchRefused):
    """The disk has no room for what the round writes."""
