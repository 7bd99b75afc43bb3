"""How a round's events and stages read."""

import json
from typing import Any

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma

from labelapp.models import Project, RoundEvent
from labelapp.rounds import checks, figures
from labelapp.rounds.moved import in_words, points_of
from labelapp.rounds.presets import LABELS, PRESETS

register = template.Library()
register.filter("intcomma", intcomma)

SENTENCES = {
    "launched": "Launched",
    "claimed": "Taken by {owner}, attempt {attempt}",
    "stage_started": "Stage {stage} started",
    "stage_done": "Stage {stage} done",
    "stage_failed": "Stage {stage} failed",
    "cancel_requested": "Cancel requested",
    "cancelled": "Cancelled",
    "resumed": "Resumed from its last saved state",
    "released": "Given back to the queue: {reason}",
    "state_damaged": "{stage} cannot go on from a state that was changed: {error}",
    "waits_for_devices": "Waits for {wanted} devices: {free} of {of} are free on {host}",
    "lease_expired": "The worker {owner} was lost; queued again",
    "collected": "{comparisons} comparisons made, {identical} with equal answers left out",
    "failed": "Failed: {code}",
    "done": "Done",
    "promoted": "{version} promoted by the gate",
    "not_promoted": "{version} not promoted: {because}",
}


@register.filter
def told(event: RoundEvent) -> str:
    """The event as words; one that we have no words for by its own name."""
    sentence = SENTENCES.get(event.kind, event.kind.replace("_", " ").capitalize())
    if event.kind == "stage_started" and event.detail.get("resumed"):
        sentence = "Stage {stage} resumed from its last state"
    if event.detail.get("why"):
        sentence = "Launched by the schedule after {why}"
    try:
        return sentence.format(**event.detail | {"stage": str(event.detail.get("stage", "")).replace("_", " ")})
    except KeyError:
        return event.kind.replace("_", " ").capitalize()


@register.filter
def percent(share: float | None) -> str:
    """A share such as "53.2 %"."""
    return figures.text(share, "share")


@register.filter
def stage_label(name: str) -> str:
    """What a stage is called on the pages."""
    return LABELS.get(name, name.replace("_", " "))


@register.filter
def preset_title(name: str) -> str:
    """What a preset is called; one that no longer ships by its own name."""
    return PRESETS[name].title if name in PRESETS else name


@register.filter
def size(count: int | None) -> str:
    """Bytes for a person; empty where they are not known."""
    return checks.size(count) if count else ""


@register.filter
def share(value: float) -> str:
    """Such as "71.4 %"."""
    return figures.text(value, "share")


@register.filter
def points(value: float) -> str:
    """A difference of shares in percentage points with its sign, such as "+1.3"."""
    return ("+" if value > 0 else "") + figures.number(value, "share")


@register.filter
def as_json(value: Any) -> str:
    """A setting as it is written by hand."""
    return json.dumps(value, ensure_ascii=False)


@register.simple_tag
def moved_by_judgments(project: Project) -> str:
    """What the latest judgments moved, for the labelers' pages: labeling itself knows nothing of rounds."""
    return in_words(points_of(project))
