"""How the labeling's figures read."""

from datetime import datetime

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

register = template.Library()
STATUS = {  # words, class of the tag
    "working": (gettext_lazy("working"), "running"),
    "idle": (gettext_lazy("idle"), "waiting"),
    "paused": (gettext_lazy("paused"), "block"),
    "quiz": (gettext_lazy("quiz to pass"), "warn"),
    "capped": (gettext_lazy("done for today"), "done"),
}
STANDING = {
    "done": (gettext_lazy("done"), "done"),
    "on track": (gettext_lazy("on track"), "done"),
    "at risk": (gettext_lazy("at risk"), "warn"),
    "late": (gettext_lazy("late"), "block"),
    "unknown": (gettext_lazy("unknown"), "waiting"),
}
UNITS = ((86400, "d"), (3600, "h"), (60, "min"))

register.filter("status_words", lambda status: STATUS[status][0])
register.filter("status_class", lambda status: STATUS[status][1])
register.filter("standing_words", lambda standing: STANDING[standing][0])
register.filter("standing_class", lambda standing: STANDING[standing][1])


@register.filter
def ago(when: datetime | None) -> str:
    """ "12 s ago", "3 min ago", "2 h ago", "5 d ago"."""
    if when is None:
        return _("never")
    seconds = max(0, int((timezone.now() - when).total_seconds()))
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), (1, "s"))
    return _("%(count)s %(unit)s ago") % {"count": seconds // size, "unit": unit}


@register.filter
def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


@register.filter
def share(found) -> str:
    """Hits of how many: a share of a few is no measure, and the page does not hide it."""
    return "–" if found.value is None else f"{found.value:.0%} ({found.hits}/{found.n})"


@register.filter
def hours(value: float) -> str:
    """Person-hours: minutes below two of them."""
    if value < 2:
        minutes = max(1, round(value * 60))
        return ngettext("%(count)s minute", "%(count)s minutes", minutes) % {"count": minutes}
    return ngettext("%(count)s hour", "%(count)s hours", round(value)) % {"count": f"{round(value):,}"}
