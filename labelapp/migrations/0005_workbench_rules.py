"""What people may cite cannot be changed; labelers who are there already get their place and their work days."""

from django.db import migrations

APPEND_ONLY = ["labelapp_skip", "labelapp_review", "labelapp_consent"]
NEVER_EDITED = ["labelapp_guidelineversion", "labelapp_protocolversion", "labelapp_consentversion"]

PLACES = "UPDATE labelapp_membership SET shuffle_start = floor(random() * 4294967296)::bigint - 2147483648;"
WORK_DAYS = """
INSERT INTO labelapp_workday (project_id, labeler_id, day, judged, skipped, active_seconds)
SELECT c.project_id, j.labeler_id, (j.created_at AT TIME ZONE 'UTC')::date, count(*), 0,
  COALESCE(sum(j.active_seconds), 0)
FROM labelapp_judgment j JOIN labelapp_comparison c ON c.id = j.comparison_id
WHERE j.labeler_id IS NOT NULL AND NOT j.withdrawn AND NOT j.surplus
  AND NOT EXISTS (SELECT FROM labelapp_judgment later WHERE later.replaces_id = j.id)
GROUP BY 1, 2, 3;
"""


def trigger(table: str, events: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE TRIGGER append_only BEFORE {events} ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION labelapp_refuse_change();",
        f"DROP TRIGGER append_only ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("labelapp", "0004_labeling_workbench")]

    operations = [
        migrations.RunSQL(PLACES, migrations.RunSQL.noop),
        migrations.RunSQL(WORK_DAYS, "DELETE FROM labelapp_workday;"),
        *[trigger(table, "UPDATE OR DELETE") for table in APPEND_ONLY],
        *[trigger(table, "UPDATE") for table in NEVER_EDITED],
    ]
