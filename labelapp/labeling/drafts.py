"""Answers that are not given yet, kept so that nothing is lost; an old one never overwrites a newer, or an answer."""

from typing import Any

from psycopg.types.json import Jsonb

from labelapp.labeling.claims import Claim
from labelapp.models import Draft

SAVE_DRAFT = """
INSERT INTO labelapp_draft (comparison_id, labeler_id, revision, body, updated_at)
SELECT %(comparison)s, %(labeler)s, %(revision)s, %(body)s, statement_timestamp()
WHERE EXISTS (SELECT FROM labelapp_slot WHERE id = %(slot)s AND labeler_id = %(labeler)s AND claim_token = %(token)s
              AND state = 'leased' FOR UPDATE)
ON CONFLICT (comparison_id, labeler_id) DO UPDATE SET revision = EXCLUDED.revision, body = EXCLUDED.body,
  updated_at = EXCLUDED.updated_at WHERE labelapp_draft.revision < EXCLUDED.revision
RETURNING id
"""


def save_draft(*, claim: Claim, labeler, revision: int, body: dict[str, Any]) -> bool:
    """Keep an answer that is not given yet. False where a newer draft, or the answer itself, is there already."""
    values = {"comparison": claim.comparison_id, "slot": claim.slot_id, "token": claim.claim_token}
    values |= {"labeler": labeler.pk, "revision": revision, "body": Jsonb(body)}
    return bool(list(Draft.objects.raw(SAVE_DRAFT, values)))
