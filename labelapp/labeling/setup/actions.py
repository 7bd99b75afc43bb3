"""What an admin sets up: the project, what is asked, what labelers are told and agree to, the queue's rules."""

import re
from dataclasses import dataclass, fields

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.text import slugify
from django.utils.translation import gettext as _

from labelapp.labeling.protocol import Protocol, parse
from labelapp.labeling.quality.gold import gold_of
from labelapp.labeling.refusals import BadSetup, NameTaken
from labelapp.models import (
    Comparison,
    ComparisonCompletion,
    ConsentVersion,
    GuidelineVersion,
    Judgment,
    Membership,
    Project,
    ProtocolVersion,
    Slot,
)

LONGEST_TEXT = 50_000  # characters of guidelines or of a consent text
LONGEST_NAME = 120
LONGEST_DESCRIPTION = 2000
MOST_OVERLAP = 50
MOST_QUIZ = 100
MOST_SECONDS = 120
MOST_A_DAY = 100_000


@dataclass(frozen=True)
class Rules:
    """How a project's queue is run; each is the field of Project with its name. Shares are between 0 and 1."""

    overlap: int
    max_overlap: int | None
    daily_cap: int | None
    repeat_share: float
    gold_share: float
    quiz_items: int
    quiz_right: int
    review_share: float
    minimum_seconds: float
    hourly_cost: float | None
    currency: str


@dataclass(frozen=True)
class Moved:
    """How many open comparisons are asked under the new protocol now, and how many are not, by why."""

    moved: int = 0
    judged: int = 0
    held: int = 0
    unfit: int = 0


@transaction.atomic
def create_project(*, name: str, slug: str = "", description: str = "", protocol: Protocol, by) -> Project:
    """A project that asks `protocol`, with `by` as its admin. An empty slug is made from the name.

    Raises BadSetup, or NameTaken where another project has the slug.
    """
    name, description = _named(name, description)
    slug = slug.strip() or slugify(name)[:50].strip("-")
    _check_slug(slug)
    try:
        with transaction.atomic():
            project = Project.objects.create(name=name, slug=slug, description=description)
    except IntegrityError as error:
        if "slug" in str(error):
            said = _("There is a project %(slug)r already; give another short name.")
            raise NameTaken(said % {"slug": slug}) from None
        raise
    ProtocolVersion.objects.create(project=project, number=1, definition=protocol.as_json())
    Membership.objects.create(project=project, user=by, role=Membership.Role.ADMIN)
    return project


def _check_slug(slug: str) -> None:
    try:
        validate_slug(slug)
    except ValidationError:
        said = _("The short name %(slug)r must be letters, digits, hyphens and underscores.") % {"slug": slug}
        raise BadSetup(said, field="slug") from None
    if len(slug) > 50:
        raise BadSetup(_("The short name has %(n)s characters; keep it to 50.") % {"n": len(slug)}, field="slug")


def rename_project(*, project: Project, name: str, description: str) -> None:
    """Change the name and the description; the slug stays, since links and keys carry it. Raises BadSetup."""
    name, description = _named(name, description)
    Project.objects.filter(pk=project.pk).update(name=name, description=description)


def _named(name: str, description: str) -> tuple[str, str]:
    name, description = name.strip(), description.strip()
    if not name or len(name) > LONGEST_NAME or "\x00" in name:
        raise BadSetup(_("A project needs a name of 1 to %(n)s characters.") % {"n": LONGEST_NAME}, field="name")
    if len(description) > LONGEST_DESCRIPTION or "\x00" in description:
        said = _("The description has %(n)s characters; keep it to %(most)s.")
        said %= {"n": len(description), "most": LONGEST_DESCRIPTION}
        raise BadSetup(said, field="description")
    return name, description


@transaction.atomic
def save_protocol(*, project: Project, definition: dict) -> tuple[ProtocolVersion, bool]:
    """The version that asks `definition`, and whether it is new: what the latest asks already is not saved again.

    Raises BadProtocol.
    """
    protocol = parse(definition)
    project.lock()  # one number after the other; judging goes on
    latest = project.protocol_versions.last()
    if latest and parse(latest.definition) == protocol:
        return latest, False
    number = latest.number + 1 if latest else 1
    return ProtocolVersion.objects.create(project=project, number=number, definition=protocol.as_json()), True


@transaction.atomic
def move_open_comparisons(*, version: ProtocolVersion) -> Moved:
    """Ask under `version` whatever is open, judged by nobody and looked at by nobody, and fits it in size.

    A labeler who claims one meanwhile is asked, and cites, the version that they saw.
    """
    sizes = parse(version.definition).sizes
    open_ = _open_under_others(version)
    fit = Q(is_judged=False, is_held=False, size__gte=sizes[0], size__lte=sizes[-1])
    moved = Comparison.objects.filter(pk__in=open_.filter(fit).values("pk")).update(protocol=version)
    stayed = _open_under_others(version).aggregate(
        judged=Count("pk", filter=Q(is_judged=True)),
        held=Count("pk", filter=Q(is_judged=False, is_held=True)),
        unfit=Count("pk", filter=Q(is_judged=False, is_held=False)),
    )
    return Moved(moved, **stayed)


def _open_under_others(version: ProtocolVersion) -> QuerySet:
    mine = Slot.objects.filter(comparison=OuterRef("pk")).order_by()
    places = ComparisonCompletion.objects.filter(comparison=OuterRef("pk")).order_by().values("comparison")
    return (
        Comparison.objects.filter(Exists(mine.filter(state=Slot.State.OPEN)), project=version.project)
        .exclude(protocol=version)
        .annotate(
            is_judged=Exists(Judgment.objects.filter(comparison=OuterRef("pk")).order_by()),
            is_held=Exists(mine.filter(state__in=[Slot.State.LEASED, Slot.State.DONE])),
            size=Coalesce(Subquery(places.annotate(n=Count("pk")).values("n")), 0),
        )
    )


@transaction.atomic
def save_text(*, project: Project, model: type, text: str) -> tuple[GuidelineVersion | ConsentVersion, bool]:
    """The version of the guidelines or the consent that says `text`, and whether it is new. Raises BadSetup."""
    text = re.sub(r"\r\n?", "\n", text).strip()
    if not text or len(text) > LONGEST_TEXT or "\x00" in text:
        said = _("A text has 1 to %(most)s characters, this one has %(n)s.")
        raise BadSetup(said % {"most": LONGEST_TEXT, "n": len(text)}, field="text")
    project.lock()  # one number after the other; judging goes on
    latest = model.objects.filter(project=project).last()
    if latest and latest.text == text:
        return latest, False
    return model.objects.create(project=project, number=latest.number + 1 if latest else 1, text=text), True


def require_consent(*, project: Project, version: ConsentVersion | None) -> None:
    """Have labelers accept this version before they go on; None asks nothing of them. Raises BadSetup."""
    if version is not None and version.project_id != project.pk:
        raise BadSetup(_("This consent text is of another project."), field="version")
    Project.objects.filter(pk=project.pk).update(consent_version=version)


def set_rules(*, project: Project, rules: Rules) -> None:
    """Run the queue by these rules from now on. Raises BadSetup with the field that cannot be so."""
    _check_rules(rules)
    if rules.quiz_items and not project.quiz_items and not gold_of(project).exists():
        said = _("There is nothing to ask in a quiz: mark a comparison as gold first, or import some.")
        raise BadSetup(said, field="quiz_items")
    Project.objects.filter(pk=project.pk).update(**{f.name: getattr(rules, f.name) for f in fields(Rules)})


def _check_rules(rules: Rules) -> None:
    _within("overlap", rules.overlap, 1, MOST_OVERLAP)
    if rules.max_overlap is not None:
        _within("max_overlap", rules.max_overlap, rules.overlap, MOST_OVERLAP)
    if rules.daily_cap is not None:
        _within("daily_cap", rules.daily_cap, 1, MOST_A_DAY)
    _within("repeat_share", rules.repeat_share, 0, 0.5)
    _within("gold_share", rules.gold_share, 0, 0.5)
    _within("review_share", rules.review_share, 0, 1)
    _within("quiz_items", rules.quiz_items, 0, MOST_QUIZ)
    _within("quiz_right", rules.quiz_right, 0, rules.quiz_items)
    _within("minimum_seconds", rules.minimum_seconds, 0, MOST_SECONDS)
    if rules.hourly_cost is not None:
        _within("hourly_cost", rules.hourly_cost, 0, 9999)
    if not re.fullmatch("[A-Z]{3}", rules.currency):
        said = _("A currency is three capital letters such as EUR, not %(value)r.")
        raise BadSetup(said % {"value": rules.currency}, field="currency")


def _within(field: str, value, low, high) -> None:
    if not low <= value <= high:
        said = _("%(value)s is out of range; choose between %(low)s and %(high)s.")
        raise BadSetup(said % {"value": value, "low": low, "high": high}, field=field)
