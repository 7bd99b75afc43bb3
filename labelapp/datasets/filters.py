"""Which comparisons: the filter of the list, of bulk changes and of their background task, said in one way."""

import json
from typing import Any

from django import forms
from django.db.models import Count, Exists, OuterRef, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext_lazy as _

from labelapp.labeling.overview.counting import MANY as NEEDS_A_LOOK
from labelapp.models import Comparison, Project, Skip, Slot

COUNTED = 10_000  # more than these are counted only where somebody asks for it
MANY = "many"
ANY = "any"
OUT = "none"
STATES = [
    ("", _("any state")), ("open", _("open")), ("leased", _("being judged")), ("done", _("done")),
    ("closed", _("closed")), ("none", _("without places")),
]  # fmt: skip


class FilterForm(forms.Form):
    """Every field may stay empty; what is not known is an error, not an empty list."""

    state = forms.ChoiceField(choices=STATES, required=False, label=_("State"))
    origin = forms.ChoiceField(required=False, label=_("Origin"))
    batch = forms.ChoiceField(required=False, label=_("Batch"))
    tag = forms.CharField(max_length=40, required=False, label=_("Requires tag"))
    protocol = forms.ChoiceField(required=False, label=_("Protocol"))
    skipped = forms.ChoiceField(required=False, label=_("Skipped"))
    by = forms.CharField(max_length=150, required=False, label=_("Skipped by"))
    text = forms.CharField(max_length=200, required=False, label=_("Prompt says"))

    def __init__(self, data, *, project: Project):
        super().__init__(data, label_suffix="", auto_id="filter_%s")
        batches = project.batches.order_by("name").values_list("pk", "name")
        protocols = project.protocol_versions.values_list("number", flat=True)
        self.fields["origin"].choices = [("", _("any origin")), *Comparison.Origin.choices]
        self.fields["batch"].choices = [("", _("any or no batch")), (OUT, _("in no batch")), *batches]
        self.fields["protocol"].choices = [("", _("any version")), *((n, f"v{n}") for n in protocols)]
        many = _("by %(n)s people or more") % {"n": NEEDS_A_LOOK}
        skipped = [("", _("or not")), (ANY, _("by anybody")), (MANY, many)]
        self.fields["skipped"].choices = [*skipped, *Skip.Reason.choices]

    def said(self) -> dict[str, str]:
        """What was filled in, to be kept, compared or put into an address. Nothing of a form with errors."""
        if not self.is_valid():
            return {}
        return {name: str(value).strip() for name, value in self.cleaned_data.items() if str(value).strip()}


def matching(project: Project, said: dict[str, Any]) -> QuerySet[Comparison]:
    """The project's comparisons that match all of what a FilterForm said."""
    rows = comparisons_in(project, said["state"]) if said.get("state") else Comparison.objects.filter(project=project)
    if origin := said.get("origin"):
        rows = rows.filter(origin=origin)
    if batch := said.get("batch"):
        rows = rows.filter(batch=None) if batch == OUT else rows.filter(batch=int(batch))
    if tag := said.get("tag"):
        rows = rows.filter(requires__contains=[tag.lower()])
    if number := said.get("protocol"):
        rows = rows.filter(protocol__number=int(number))
    if said.get("skipped") or said.get("by"):
        rows = rows.filter(pk__in=skipped(project, said.get("skipped", ""), said.get("by", "")))
    if words := said.get("text"):
        written = json.dumps(words, ensure_ascii=False)[1:-1]  # as JSON writes them
        rows = rows.annotate(said=Cast("prompt__messages", TextField())).filter(said__icontains=written)
    return rows


def skipped(project: Project, how: str, by: str) -> QuerySet:
    """Ids of comparisons that were skipped: for a reason, by a person, by many."""
    skips = Skip.objects.filter(project=project).order_by()
    if by:
        skips = skips.filter(labeler__username=by)
    if how == MANY:
        people = skips.values("comparison").annotate(people=Count("labeler", distinct=True))
        return people.filter(people__gte=NEEDS_A_LOOK).values("comparison")
    if how and how != ANY:
        skips = skips.filter(reason=how)
    return skips.values("comparison")


def comparisons_in(project: Project, state: str) -> QuerySet[Comparison]:
    """Comparisons with a place that is free for anybody, or one that somebody holds; with places that are all done or
    closed; or without places.

    EXISTS becomes a join; a NOT IN over more slots than fit into work_mem would read them again for every comparison.
    The few places that are held are found through the people who hold them.
    """
    comparisons, places = Comparison.objects.filter(project=project), Slot.objects.filter(comparison=OuterRef("pk"))
    if state == "open":
        return comparisons.filter(Exists(places.filter(state=Slot.State.OPEN, reserved_for=None)))
    if state == "leased":
        people = project.memberships.values("user")
        held = Slot.objects.filter(project=project, labeler__in=people, state=Slot.State.LEASED)
        return comparisons.filter(pk__in=held.values("comparison"))
    unanswered = Exists(places.filter(state__in=[Slot.State.OPEN, Slot.State.LEASED]))
    done = Exists(places.filter(state=Slot.State.DONE))
    if state == "done":
        return comparisons.filter(~unanswered, done)
    if state == "closed":
        return comparisons.filter(Exists(places.filter(state=Slot.State.CLOSED)), ~unanswered, ~done)
    return comparisons.filter(~Exists(places))


def count_up_to(rows: QuerySet, most: int = COUNTED) -> int | None:
    """How many, or None where they are more than `most`: that many rows are the most that is read."""
    found = rows.order_by()[: most + 1].count()
    return found if found <= most else None
