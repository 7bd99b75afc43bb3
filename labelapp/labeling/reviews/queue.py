"""Which judgments wait for a reviewer, and why.

A share of them, drawn from the submission's id; and always those that look wrong: a known answer that was missed, an
answer given faster than anybody reads, one that nobody else agrees with, and one that was returned and given again.
"""

import random
from typing import NamedTuple

from django.db import connection
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext

from labelapp.models import Project

# People read about 25 characters a second (250 words a minute). Four times that is not reading.
CHARACTERS_A_SECOND = 100
# What nobody reviewed in so many days, or among so many of its labeler's latest, leaves the queue, so that the page
# never has to look through everything.
DAYS = 30
LATEST = 1000
NEAREST = 24  # of the oldest; each reviewer takes them in an order of their own, so that two rarely meet

WAITING = """
WITH latest AS (
  SELECT j.*, c.gold, s.purpose, (SELECT p.review_share FROM labelapp_project p WHERE p.id = %(project)s) AS share
  FROM labelapp_membership m
    JOIN LATERAL (
      SELECT * FROM labelapp_judgment
      WHERE labeler_id = m.user_id AND created_at > statement_timestamp() - %(days)s * interval '1 day'
      ORDER BY created_at DESC LIMIT %(latest)s) j ON true
    JOIN labelapp_comparison c ON c.id = j.comparison_id AND c.project_id = %(project)s
    LEFT JOIN labelapp_slot s ON s.id = j.slot_id
  WHERE m.project_id = %(project)s AND j.labeler_id <> %(reviewer)s AND NOT j.withdrawn AND j.implied_by_id IS NULL
    AND COALESCE(s.state, 'done') = 'done' AND COALESCE(s.purpose, '') <> 'quiz'
    AND NOT EXISTS (SELECT FROM labelapp_judgment newer WHERE newer.replaces_id = j.id)
    AND NOT EXISTS (SELECT FROM labelapp_review r WHERE r.judgment_id = j.id OR r.correction_id = j.id)
    AND NOT EXISTS (SELECT FROM labelapp_judgment own LEFT JOIN labelapp_review r ON r.correction_id = own.id
                    WHERE own.comparison_id = j.comparison_id AND own.labeler_id = %(reviewer)s AND r.id IS NULL)
), others AS (
  SELECT latest.id, bool_or(o.both_bad = latest.both_bad
      AND o.ranking -> 0 IS NOT DISTINCT FROM latest.ranking -> 0) AS agree
  FROM latest JOIN labelapp_judgment o ON o.comparison_id = latest.comparison_id
    AND o.labeler_id IS DISTINCT FROM latest.labeler_id AND NOT o.withdrawn
    AND NOT EXISTS (SELECT FROM labelapp_judgment newer WHERE newer.replaces_id = o.id)
  WHERE latest.both_bad OR latest.ranking IS NOT NULL
  GROUP BY latest.id
), why AS (
  SELECT latest.id, latest.created_at,
    ('x' || substr(md5(latest.submission_id::text || %(salt)s), 1, 8))::bit(32)::bigint / 4294967296.0 < share AS drawn,
    COALESCE(CASE WHEN latest.both_bad OR gold @> '{"both_bad": true}'
      THEN NOT (latest.both_bad AND gold @> '{"both_bad": true}')
      ELSE NOT (latest.ranking -> 0 @> (gold -> 0) AND gold -> 0 @> (latest.ranking -> 0)) END, false) AS missed,
    COALESCE(active_seconds < (
      SELECT sum(length(t.text)) FROM labelapp_comparisoncompletion place
        JOIN labelapp_completion t ON t.id = place.completion_id
      WHERE place.comparison_id = latest.comparison_id) / %(speed)s, false) AS hasty,
    COALESCE(NOT others.agree, false) AS alone,
    EXISTS (SELECT FROM labelapp_review r WHERE r.judgment_id = latest.replaces_id AND r.verdict = 'returned') AS again
  FROM latest LEFT JOIN others USING (id)
)
SELECT id, missed, hasty, alone, again, count(*) OVER () AS waiting FROM why
WHERE (drawn OR missed OR hasty OR alone OR again) AND id <> ALL(%(past)s)
ORDER BY created_at, id LIMIT %(nearest)s
"""


class Waiting(NamedTuple):
    """One judgment to look at. No reason but the draw: all four are False."""

    judgment_id: int
    missed: bool
    hasty: bool
    alone: bool
    again: bool
    waiting: int

    @property
    def reasons(self) -> list[str]:
        """Why it is here, in words."""
        said = [
            (self.missed, gettext("The known answer was missed.")),
            (self.hasty, gettext("It was given faster than anybody reads.")),
            (self.alone, gettext("Nobody else agrees with it.")),
            (self.again, gettext("It was returned, and given again.")),
        ]
        return [words for is_so, words in said if is_so] or [gettext("It was drawn at random.")]


def next_review(*, project: Project, reviewer, past: list[int] = ()) -> Waiting | None:
    """The next judgment for this reviewer; `past` are those that they passed over."""
    values = {"project": project.pk, "reviewer": reviewer.pk, "past": list(past), "days": DAYS, "nearest": NEAREST}
    values["latest"] = LATEST
    values |= {"speed": float(CHARACTERS_A_SECOND), "salt": salt()}
    with connection.cursor() as cursor:
        cursor.execute(WAITING, values)
        rows = [Waiting(*row) for row in cursor.fetchall()]
    return min(rows, key=lambda row: random.Random(f"{reviewer.pk}/{row.judgment_id}").random(), default=None)


def salt() -> str:
    """Ids are made by browsers: nobody can look for one that is not drawn."""
    return salted_hmac("labelapp.labeling.reviews.actions", "drawn", algorithm="sha256").hexdigest()
