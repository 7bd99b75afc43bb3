"""What live chat refuses, by name; `status` is its HTTP answer, as in labeling."""

from labelapp.labeling.refusals import Refusal


class NotNow(Refusal):
    """This person may not begin a turn: paused, over the day's cap, without consent, or another one is running."""


class NothingToAsk(Refusal):
    """No model can answer, or the project's protocol is not one for chat."""


class BadPrompt(Refusal):
    """A prompt without text, or with too much of it."""

    status = 422


class OutOfStep(Refusal):
    """The conversation has moved on, in another tab perhaps."""


class NotShown(Refusal):
    """A vote about an answer of which nothing has been on screen, or that reads like the other."""

    status = 422


class BadUpstream(Refusal):
    """A model's address or key variable that this server does not allow."""

    status = 422


class ModelFailed(Exception):
    """A model did not answer. `reason` may be shown to labelers: it names no model; the message is for admins."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason
