"""How often a key may ask: a token bucket for each key, in the memory of each web process."""

import time
from collections import OrderedDict
from dataclasses import dataclass

from labelapp.serving.errors import ApiError

MAX_BUCKETS = 10_000


@dataclass(frozen=True)
class Quota:
    """What is left after a request. `reset` is in seconds until the bucket is full again."""

    limit: int
    remaining: int
    reset: float

    @property
    def headers(self) -> dict[str, str]:
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(self.remaining),
            "x-ratelimit-reset-requests": f"{self.reset:.1f}s",
        }


class RateExceeded(ApiError):
    def __init__(self, quota: Quota, wait: float) -> None:
        message = f"This key may ask {quota.limit} times a minute. Try again in {wait:.1f} s."
        super().__init__(429, "rate_limit_exceeded", message, retry_after=max(1, round(wait)))
        self.quota = quota


class Buckets:
    """Tokens flow in at `per_minute` and a full bucket holds a minute's worth."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.levels: OrderedDict[int, tuple[float, float]] = OrderedDict()  # key: (tokens, seconds when counted)

    def take(self, key: int, now: float | None = None) -> Quota:
        """Take one token. Raises RateExceeded when the bucket is empty."""
        now = time.monotonic() if now is None else now
        level, counted = self.levels.get(key, (float(self.per_minute), now))
        level = min(self.per_minute, level + (now - counted) * self.per_minute / 60)
        granted = level >= 1
        self.put(key, level - granted, now)
        left = level - granted
        quota = Quota(self.per_minute, int(left), (self.per_minute - left) * 60 / self.per_minute)
        if not granted:
            raise RateExceeded(quota, (1 - level) * 60 / self.per_minute)
        return quota

    def put(self, key: int, level: float, now: float) -> None:
        self.levels[key] = (level, now)
        self.levels.move_to_end(key)
        if len(self.levels) > MAX_BUCKETS:
            self.levels.popitem(last=False)
