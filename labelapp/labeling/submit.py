"""The usual submit: one statement, from the slot to the judgment."""

from typing import Any

from psycopg.types.json import Jsonb

from labelapp.labeling.claims import Claim
from labelapp.models import Judgment
from labelapp.models.prepared import as_instance, read_rows

# A lease that has run out does not matter while nobody took the slot.
SUBMIT = """
WITH previous AS (
  SELECT id, withdrawn FROM labelapp_judgment
  WHERE comparison_id = %(comparison)s AND labeler_id = %(labeler)s ORDER BY id DESC LIMIT 1
), took AS (
  UPDATE labelapp_slot slot
  SET state = 'done', labeler_id = %(labeler)s, lease_until = NULL, claim_token = %(token)s
  WHERE slot.id = %(slot)s AND slot.comparison_id = %(comparison)s
    AND (slot.purpose IN ('reask', 'returned') OR NOT EXISTS (SELECT FROM previous WHERE NOT withdrawn))
    AND NOT EXISTS (SELECT FROM labelapp_judgment replayed WHERE replayed.submission_id = %(submission_id)s)
    AND (slot.state = 'open' AND COALESCE(slot.reserved_for_id, %(labeler)s) = %(labeler)s
         OR slot.state = 'leased' AND slot.labeler_id = %(labeler)s AND slot.claim_token = %(token)s)
  RETURNING slot.*
), counted AS (
  INSERT INTO labelapp_workday (project_id, labeler_id, day, judged, skipped, active_seconds)
  SELECT project_id, labeler_id, (statement_timestamp() AT TIME ZONE 'UTC')::date, 1, 0, COALESCE(%(active_seconds)s, 0)
  FROM took
  ON CONFLICT (project_id, labeler_id, day) DO UPDATE SET judged = labelapp_workday.judged + 1,
    active_seconds = labelapp_workday.active_seconds + EXCLUDED.active_seconds
), forgotten AS (
  DELETE FROM labelapp_draft WHERE comparison_id = %(comparison)s AND labeler_id = %(labeler)s
), said AS (
  INSERT INTO labelapp_judgment ({columns}, comparison_id, slot_id, labeler_id, replaces_id, external_annotator,
    withdrawn, surplus, created_at)
  SELECT {values}, %(comparison)s, %(slot)s, %(labeler)s, (SELECT id FROM previous), '', false, false,
    statement_timestamp()
  FROM took
  RETURNING id, replaces_id, created_at
)
SELECT said.id, said.replaces_id, said.created_at, took.purpose, took.project_id FROM said, took
"""
COLUMNS = (
    "submission_id", "body_hash", "strength", "ranking", "both_bad", "unrankable", "ratings", "safety", "spans",
    "reasons", "rationale", "rewrite", "rewrite_of", "display_order", "guideline_id", "protocol_id", "consent_id",
    "active_seconds", "seen",
)  # fmt: skip
SUBMIT = SUBMIT.format(columns=", ".join(COLUMNS), values=", ".join(f"%({name})s" for name in COLUMNS))
JSON = ("ranking", "ratings", "safety", "spans")


STORED = {"external_annotator": "", "withdrawn": False, "surplus": False, "implied_by_id": None}  # as SUBMIT has it


def submit(claim: Claim, labeler, row: dict[str, Any]) -> Judgment | None:
    """Close the slot if it is the labeler's, or nobody's, and store; None if it went to somebody else or is done.

    The judgment is as it is in the table now; its slot's `purpose` and `project_id` come with it.
    """
    about = {"slot": claim.slot_id, "comparison": claim.comparison_id, "labeler": labeler.pk}
    values = row | {name: row[name] if row[name] is None else Jsonb(row[name]) for name in JSON}
    rows = read_rows(SUBMIT, values | about | {"token": claim.claim_token})
    fixed = STORED | {f"{name}_id": key for name, key in about.items()}
    return as_instance(Judgment, row | fixed | rows[0]) if rows else None
