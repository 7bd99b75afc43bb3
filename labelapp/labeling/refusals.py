"""What labeling refuses, by name. A sentence names the thing, the value and the remedy; `status` is its HTTP answer."""


class Refusal(Exception):
    """An expected no, said to a person."""

    status = 409


class UnusableComparison(Refusal):
    """A prompt and completions that nobody could judge."""

    status = 422


class BadProtocol(Refusal):
    """A definition that no labeler could answer."""

    status = 422


class BadSetup(Refusal):
    """A name, a text or a rule that a project cannot have. field: the one to change."""

    status = 422

    def __init__(self, said: str, *, field: str = ""):
        super().__init__(said)
        self.field = field


class NameTaken(BadSetup):
    """Another project has this short name."""

    status = 409

    def __init__(self, said: str):
        super().__init__(said, field="slug")


class NotAnAnswer(Refusal):
    """An answer that the protocol does not know."""

    status = 422


class ChangedBody(Refusal):
    """A submission id came back with another answer."""

    status = 422


class ForeignClaim(Refusal):
    """An answer to something that was never handed to this person."""

    status = 422


class AlreadyJudged(Refusal):
    """This person's judgment of this comparison stands."""


class NothingToUndo(Refusal):
    """This person's last judgment is withdrawn already, or there is none."""


class NotYours(Refusal):
    """An item, or a judgment, that this person may not act on now."""


class Superseded(Refusal):
    """Somebody was quicker: what was to be acted on has been replaced."""


class CannotAskAgain(Refusal):
    """A judgment that its labeler cannot be asked about again."""


class BadGold(Refusal):
    """A known answer that nobody could give."""

    status = 422


class NoQuiz(Refusal):
    """A person cannot be asked the quiz, or not again."""


class BadBatch(Refusal):
    """A batch that cannot be made or changed so."""

    status = 422


class AlreadyReviewed(Refusal):
    """Another reviewer, or another verdict, was first."""
