"""What a client sees when something is refused: always `{"error": {message, type, param, code}}`, see OpenAI's API."""

from typing import Any

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """A refusal with its status. `retry_after` (seconds) tells clients when another try makes sense."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param, self.retry_after = status, code, message, param, retry_after

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @classmethod
    def from_body(cls, status: int, body: Any) -> "ApiError":
        """The error an engine sent, as it was; anything else is a failure of the engine."""
        error = body.get("error") if isinstance(body, dict) else None
        if not isinstance(error, dict) or "message" not in error:
            return engine_failed()
        retry_after = 1 if status in (429, 503) else None
        return cls(status, error.get("code"), error["message"], param=error.get("param"), retry_after=retry_after)


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, code, message, param=param)


def unsupported(param: str, why: str = "is not supported") -> ApiError:
    return invalid(param, f"{param} {why}.", "unsupported_parameter")


def model_not_found(model: str) -> ApiError:
    message = f"The model {model[:120]!r} does not exist or is not loaded."
    return ApiError(404, "model_not_found", message, param="model")


def model_not_ready(why: str) -> ApiError:
    return ApiError(503, "model_not_ready", f"The model is not ready: {why}. Try again soon.", retry_after=2)


def engine_failed() -> ApiError:
    return ApiError(502, "engine_failed", "The engine failed while it answered. Try again.")
