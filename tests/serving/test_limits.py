"""How often a key may ask."""

import pytest

from labelapp.serving.limits import Buckets, RateExceeded


def test_a_bucket_empties_and_fills_again():
    buckets = Buckets(per_minute=2)
    assert [buckets.take(1, now=0.0).remaining, buckets.take(1, now=0.0).remaining] == [1, 0]

    with pytest.raises(RateExceeded) as refused:
        buckets.take(1, now=15.0)  # half a request has come back
    assert refused.value.status == 429 and refused.value.retry_after == 15
    assert refused.value.quota.headers["x-ratelimit-remaining-requests"] == "0"

    assert buckets.take(1, now=31.0).limit == 2


def test_one_key_does_not_use_up_another():
    buckets = Buckets(per_minute=1)
    buckets.take(1, now=0.0)

    assert buckets.take(2, now=0.0).remaining == 0
