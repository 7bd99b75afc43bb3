"""What people may cite cannot be changed: the database refuses UPDATE and DELETE on append-only tables.

TRUNCATE is not refused, so that tests can empty their own database.
"""

from django.db import migrations

TABLES = [
    "labelapp_judgment",
    "labelapp_snapshot",
    "labelapp_audit",
    "labelapp_auditmetric",
    "labelapp_deploymentevent",
    "labelapp_roundevent",
]

FUNCTION = """
CREATE FUNCTION labelapp_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
"""


def trigger(table: str) -> str:
    return (
        f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION labelapp_refuse_change();"
    )


class Migration(migrations.Migration):
    dependencies = [("labelapp", "0001_initial")]

    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION labelapp_refuse_change();"),
        *[
            migrations.RunSQL(trigger(table), f"DROP TRIGGER append_only ON {table};")
            for table in TABLES
        ],
    ]
