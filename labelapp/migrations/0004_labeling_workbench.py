"""What the labeling workbench asks and keeps: protocols, consent, skips, drafts, reviews, invitations, batches."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import labelapp.models.people


class Migration(migrations.Migration):
    dependencies = [
        ("labelapp", "0003_pending_switch"),
    ]

    operations = [
        migrations.CreateModel(
            name="Batch",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=120)),
                ("priority", models.IntegerField(default=0, help_text="Lower is handed out first.")),
                ("deadline", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Consent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("accepted_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="ConsentVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.PositiveIntegerField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("text", models.TextField()),
            ],
            options={
                "ordering": ["number"],
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Draft",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("revision", models.BigIntegerField()),
                ("body", models.JSONField()),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
        ),
        migrations.CreateModel(
            name="Invitation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("labeler", "Labeler"),
                            ("reviewer", "Reviewer"),
                            ("researcher", "Researcher"),
                            ("admin", "Admin"),
                        ],
                        default="labeler",
                        max_length=10,
                    ),
                ),
                (
                    "tags",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40), blank=True, default=list, size=None
                    ),
                ),
                (
                    "token_sha256",
                    models.CharField(help_text="The token itself is shown once.", max_length=64, unique=True),
                ),
                ("expires_at", models.DateTimeField()),
                ("uses_left", models.PositiveIntegerField(default=1)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Review",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        choices=[
                            ("accepted", "Accepted"),
                            ("corrected", "corrected by a revision"),
                            ("returned", "returned to the labeler"),
                        ],
                        max_length=9,
                    ),
                ),
                ("comment", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="Skip",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("unsure", "I cannot decide"),
                            ("unclear", "The prompt is unclear"),
                            ("language", "I do not speak the language well enough"),
                            ("expertise", "I lack the knowledge"),
                            ("upsetting", "I would rather not read this"),
                            ("broken", "Something is shown wrongly"),
                            ("other", "Something else"),
                        ],
                        max_length=10,
                    ),
                ),
                ("comment", models.TextField(blank=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="WorkDay",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("day", models.DateField()),
                (
                    "judged",
                    models.IntegerField(
                        db_default=0, default=0, help_text="Slots closed; an undo takes one away."
                    ),
                ),
                ("skipped", models.IntegerField(db_default=0, default=0)),
                ("active_seconds", models.FloatField(db_default=0, default=0)),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="judgment",
            name="judgment_strength_is_in_range",
        ),
        migrations.RemoveConstraint(
            model_name="judgment",
            name="judgment_says_exactly_one_thing",
        ),
        migrations.RemoveConstraint(
            model_name="slot",
            name="slot_state_fits_its_lease",
        ),
        migrations.RemoveIndex(
            model_name="slot",
            name="slot_queue",
        ),
        migrations.AddField(
            model_name="comparison",
            name="explanation",
            field=models.TextField(
                blank=True, help_text="Why the known answer is right; shown after it was given."
            ),
        ),
        migrations.AddField(
            model_name="comparison",
            name="repeats",
            field=models.ForeignKey(
                blank=True,
                help_text="Of a swapped repeat: the comparison that it shows the other way round.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="repeated_as",
                to="labelapp.comparison",
            ),
        ),
        migrations.AddField(
            model_name="comparison",
            name="requires",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=40),
                blank=True,
                default=list,
                help_text="Tags a labeler must have.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="judgment",
            name="implied_by",
            field=models.ForeignKey(
                blank=True,
                help_text="Of a pair made from a rewrite: the judgment that the rewrite belongs to.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="implies",
                to="labelapp.judgment",
            ),
        ),
        migrations.AddField(
            model_name="judgment",
            name="reasons",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=60), blank=True, db_default=[], default=list, size=None
            ),
        ),
        migrations.AddField(
            model_name="judgment",
            name="rewrite_of",
            field=models.PositiveSmallIntegerField(
                blank=True, help_text="The position it improves.", null=True
            ),
        ),
        migrations.AddField(
            model_name="judgment",
            name="seen",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.FloatField(),
                blank=True,
                db_default=[],
                default=list,
                help_text="Share of each completion that was on screen, by position, 0 to 1.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="judgment",
            name="unrankable",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveSmallIntegerField(),
                blank=True,
                db_default=[],
                default=list,
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="membership",
            name="daily_cap",
            field=models.PositiveIntegerField(blank=True, help_text="Instead of the project's.", null=True),
        ),
        migrations.AddField(
            model_name="membership",
            name="guideline_seen",
            field=models.PositiveIntegerField(default=0, help_text="Number of the version read last."),
        ),
        migrations.AddField(
            model_name="membership",
            name="paused_at",
            field=models.DateTimeField(
                blank=True, help_text="No items are handed out since then.", null=True
            ),
        ),
        migrations.AddField(
            model_name="membership",
            name="paused_because",
            field=models.TextField(blank=True),
        ),
        migrations.AddField(
            model_name="membership",
            name="qualified_at",
            field=models.DateTimeField(blank=True, help_text="When the quiz was passed.", null=True),
        ),
        migrations.AddField(
            model_name="membership",
            name="shuffle_start",
            field=models.IntegerField(default=labelapp.models.people.random_start),
        ),
        migrations.AddField(
            model_name="membership",
            name="tags",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=40),
                blank=True,
                default=list,
                help_text="Languages and skills: an item is handed only to people with all the tags it requires.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="currency",
            field=models.CharField(default="EUR", max_length=3),
        ),
        migrations.AddField(
            model_name="project",
            name="daily_cap",
            field=models.PositiveIntegerField(
                blank=True, help_text="Judgments a labeler may make in a day.", null=True
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="gold_share",
            field=models.FloatField(default=0, help_text="Share of items whose answer is known."),
        ),
        migrations.AddField(
            model_name="project",
            name="hourly_cost",
            field=models.DecimalField(blank=True, decimal_places=2, max_digits=8, null=True),
        ),
        migrations.AddField(
            model_name="project",
            name="max_overlap",
            field=models.PositiveSmallIntegerField(
                blank=True,
                help_text="Where people disagree, slots are added up to this many. Empty: never.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="minimum_seconds",
            field=models.FloatField(
                default=0, help_text="How long an item must be on screen before an answer."
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="quiz_items",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="Gold items before the first real one."
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="quiz_right",
            field=models.PositiveSmallIntegerField(
                default=0, help_text="How many of them must be answered right."
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="repeat_share",
            field=models.FloatField(
                default=0, help_text="Share of items shown again to the same person, swapped."
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="review_share",
            field=models.FloatField(default=0, help_text="Share of judgments that a reviewer looks at."),
        ),
        migrations.AddField(
            model_name="slot",
            name="after_judged",
            field=models.IntegerField(
                blank=True, help_text="or once its labeler has judged so many.", null=True
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="not_before",
            field=models.DateTimeField(blank=True, help_text="A reserved slot is due then,", null=True),
        ),
        migrations.AddField(
            model_name="slot",
            name="note",
            field=models.TextField(
                blank=True, help_text="Why it comes again, in the words of whoever sent it back."
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="purpose",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", "work"),
                    ("repeat", "swapped repeat"),
                    ("gold", "Gold"),
                    ("quiz", "Quiz"),
                    ("reask", "asked again"),
                    ("returned", "returned by a reviewer"),
                ],
                default="",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="requires",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=40),
                blank=True,
                default=list,
                help_text="The comparison's.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="slot",
            name="reserved_for",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="reserved_slots",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AlterField(
            model_name="comparison",
            name="origin",
            field=models.CharField(
                choices=[
                    ("import", "Import"),
                    ("random", "random arm"),
                    ("active", "active arm"),
                    ("gold", "Gold"),
                    ("swapped", "swapped repeat"),
                    ("rewrite", "rewrite beside what it improves"),
                    ("chat", "live chat"),
                ],
                default="random",
                max_length=8,
            ),
        ),
        migrations.AlterField(
            model_name="judgment",
            name="ratings",
            field=models.JSONField(
                blank=True, db_default={}, default=dict, help_text="Per criterion, then per position."
            ),
        ),
        migrations.AlterField(
            model_name="judgment",
            name="rationale",
            field=models.TextField(blank=True, db_default=""),
        ),
        migrations.AlterField(
            model_name="judgment",
            name="rewrite",
            field=models.TextField(blank=True, db_default="", help_text="An answer the labeler wrote."),
        ),
        migrations.AlterField(
            model_name="judgment",
            name="safety",
            field=models.JSONField(
                blank=True, db_default=[], default=list, help_text="Per position: safe or unsafe."
            ),
        ),
        migrations.AlterField(
            model_name="judgment",
            name="spans",
            field=models.JSONField(
                blank=True,
                db_default=[],
                default=list,
                help_text="{position, start, end, quote, reason}; code points.",
            ),
        ),
        migrations.AlterField(
            model_name="slot",
            name="display_order",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.PositiveSmallIntegerField(),
                blank=True,
                default=list,
                help_text="Positions in the order they are shown, counter-balanced.",
                size=None,
            ),
        ),
        migrations.AlterField(
            model_name="slot",
            name="state",
            field=models.CharField(
                choices=[
                    ("open", "Open"),
                    ("leased", "Leased"),
                    ("done", "Done"),
                    ("closed", "closed by an admin"),
                ],
                default="open",
                max_length=6,
            ),
        ),
        migrations.AddIndex(
            model_name="slot",
            index=models.Index(
                condition=models.Q(("reserved_for__isnull", True), ("state__in", ["open", "leased"])),
                fields=["project", "priority", "shuffle_key"],
                name="slot_queue",
            ),
        ),
        migrations.AddIndex(
            model_name="slot",
            index=models.Index(
                condition=models.Q(("reserved_for__isnull", False), ("state__in", ["open", "leased"])),
                fields=["reserved_for", "project"],
                name="slot_reserved",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("claim_token__isnull", True),
                        ("labeler__isnull", True),
                        ("lease_until__isnull", True),
                        ("state", "open"),
                    ),
                    models.Q(
                        ("claim_token__isnull", False),
                        ("labeler__isnull", False),
                        ("lease_until__isnull", False),
                        ("state", "leased"),
                    ),
                    models.Q(("labeler__isnull", False), ("lease_until__isnull", True), ("state", "done")),
                    models.Q(
                        ("claim_token__isnull", True),
                        ("labeler__isnull", True),
                        ("lease_until__isnull", True),
                        ("state", "closed"),
                    ),
                    _connector="OR",
                ),
                name="slot_state_fits_its_lease",
            ),
        ),
        migrations.AddConstraint(
            model_name="slot",
            constraint=models.CheckConstraint(
                condition=models.Q(("purpose", ""), ("reserved_for__isnull", False), _connector="OR"),
                name="slot_purpose_names_its_labeler",
            ),
        ),
        migrations.AddField(
            model_name="batch",
            name="project",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="batches", to="labelapp.project"
            ),
        ),
        migrations.AddField(
            model_name="comparison",
            name="batch",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="comparisons",
                to="labelapp.batch",
            ),
        ),
        migrations.AddIndex(
            model_name="comparison",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)), fields=["batch"], name="comparison_of_batch"
            ),
        ),
        migrations.AddField(
            model_name="consent",
            name="labeler",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="consents",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="judgment",
            name="consent",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="judgments",
                to="labelapp.consent",
            ),
        ),
        migrations.AddField(
            model_name="membership",
            name="consent",
            field=models.ForeignKey(
                blank=True,
                help_text="The latest given.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="labelapp.consent",
            ),
        ),
        migrations.AddConstraint(
            model_name="judgment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("strength__isnull", True),
                    models.Q(("strength__gte", -4), ("strength__lte", 4)),
                    _connector="OR",
                ),
                name="judgment_strength_is_in_range",
            ),
        ),
        migrations.AddConstraint(
            model_name="judgment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("both_bad", False),
                        ("ranking__isnull", True),
                        ("strength__isnull", True),
                        ("withdrawn", True),
                    ),
                    models.Q(
                        ("both_bad", True),
                        ("ranking__isnull", True),
                        ("strength__isnull", True),
                        ("withdrawn", False),
                    ),
                    models.Q(("both_bad", False), ("ranking__isnull", False), ("withdrawn", False)),
                    models.Q(
                        ("both_bad", False),
                        ("ranking__isnull", True),
                        ("strength__isnull", True),
                        ("withdrawn", False),
                        models.Q(
                            models.Q(("ratings", {}), _negated=True),
                            models.Q(("safety", []), _negated=True),
                            models.Q(("rewrite", ""), _negated=True),
                            _connector="OR",
                        ),
                    ),
                    _connector="OR",
                ),
                name="judgment_says_exactly_one_thing",
            ),
        ),
        migrations.AddField(
            model_name="consentversion",
            name="project",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="consent_versions",
                to="labelapp.project",
            ),
        ),
        migrations.AddField(
            model_name="consent",
            name="version",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="consents",
                to="labelapp.consentversion",
            ),
        ),
        migrations.AddField(
            model_name="project",
            name="consent_version",
            field=models.ForeignKey(
                blank=True,
                help_text="What a labeler must have accepted; none where empty.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="labelapp.consentversion",
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("max_overlap__isnull", True), ("max_overlap__gte", models.F("overlap")), _connector="OR"
                ),
                name="project_max_overlap_reaches_overlap",
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("gold_share__gte", 0),
                    ("gold_share__lte", 0.5),
                    ("repeat_share__gte", 0),
                    ("repeat_share__lte", 0.5),
                    ("review_share__gte", 0),
                    ("review_share__lte", 1),
                ),
                name="project_quality_shares_are_shares",
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("quiz_right__lte", models.F("quiz_items"))),
                name="project_quiz_can_be_passed",
            ),
        ),
        migrations.AddConstraint(
            model_name="project",
            constraint=models.CheckConstraint(
                condition=models.Q(("minimum_seconds__gte", 0), ("minimum_seconds__lte", 120)),
                name="project_minimum_seconds_is_bearable",
            ),
        ),
        migrations.AddField(
            model_name="draft",
            name="comparison",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="drafts", to="labelapp.comparison"
            ),
        ),
        migrations.AddField(
            model_name="draft",
            name="labeler",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="drafts",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="invitation",
            name="created_by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="invitation",
            name="project",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="invitations", to="labelapp.project"
            ),
        ),
        migrations.AddField(
            model_name="review",
            name="correction",
            field=models.OneToOneField(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="correction_of",
                to="labelapp.judgment",
            ),
        ),
        migrations.AddField(
            model_name="review",
            name="judgment",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="review", to="labelapp.judgment"
            ),
        ),
        migrations.AddField(
            model_name="review",
            name="reviewer",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="reviews",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="skip",
            name="comparison",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="skips", to="labelapp.comparison"
            ),
        ),
        migrations.AddField(
            model_name="skip",
            name="labeler",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="skips", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="skip",
            name="project",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="skips", to="labelapp.project"
            ),
        ),
        migrations.AddField(
            model_name="workday",
            name="labeler",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="work_days",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="workday",
            name="project",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="work_days", to="labelapp.project"
            ),
        ),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.UniqueConstraint(
                fields=("project", "name"), name="batch_name_is_unique_in_project"
            ),
        ),
        migrations.AddConstraint(
            model_name="consentversion",
            constraint=models.UniqueConstraint(
                fields=("project", "number"), name="consent_number_is_unique_in_project"
            ),
        ),
        migrations.AddConstraint(
            model_name="consent",
            constraint=models.UniqueConstraint(fields=("version", "labeler"), name="one_consent_per_version"),
        ),
        migrations.AddConstraint(
            model_name="draft",
            constraint=models.UniqueConstraint(
                fields=("comparison", "labeler"), name="one_draft_per_labeler_and_comparison"
            ),
        ),
        migrations.AddConstraint(
            model_name="review",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("correction__isnull", False), ("verdict", "corrected")),
                    models.Q(("correction__isnull", True), ("verdict__in", ["accepted", "returned"])),
                    _connector="OR",
                ),
                name="review_correction_fits_its_verdict",
            ),
        ),
        migrations.AddIndex(
            model_name="skip",
            index=models.Index(fields=["comparison", "labeler"], name="skip_comparison_labeler"),
        ),
        migrations.AddIndex(
            model_name="skip",
            index=models.Index(fields=["project", "-created_at"], name="skip_project_latest"),
        ),
        migrations.AddConstraint(
            model_name="workday",
            constraint=models.UniqueConstraint(
                fields=("project", "labeler", "day"), name="one_work_day_per_labeler_and_date"
            ),
        ),
    ]
