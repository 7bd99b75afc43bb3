"""The form in which a protocol is composed, and its rows of criteria."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from labelapp.labeling.protocol import LONGEST_TEXT, MOST_STRENGTH, Criterion, Protocol, parse
from labelapp.labeling.refusals import BadProtocol
from labelapp.labeling.setup import changes

MOST_CRITERIA = 20
LISTS = ("grades", "span_reasons", "chips")
MOVE = re.compile(r"(up|down|remove):(\d{1,2})")
STEPS = ngettext_lazy(
    "%(n)d grade: %(two)d steps, %(three)d with a tie", "%(n)d grades: %(two)d steps, %(three)d with a tie", "n"
)


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    def __init__(self, **more):
        super().__init__(required=False, widget=forms.Textarea(attrs={"rows": 4}), **more)

    def clean(self, value) -> list[str]:
        return [line.strip() for line in super().clean(value).splitlines() if line.strip()]


class ProtocolForm(forms.Form):
    """Every part of a Protocol but its criteria."""

    question = forms.CharField(
        label=_("Question"), max_length=LONGEST_TEXT, widget=forms.Textarea(attrs={"rows": 2}),
        help_text=_("What a labeler reads above the answers."),
    )  # fmt: skip
    form = forms.ChoiceField(label=_("Form"), choices=list(changes.FORMS.items()))
    max_strength = forms.TypedChoiceField(
        label=_("Grades on each side"), coerce=int,
        choices=[(n, STEPS % {"n": n, "two": 2 * n, "three": 2 * n + 1}) for n in range(1, MOST_STRENGTH + 1)],
    )  # fmt: skip
    grades = LinesField(
        label=_("Words for the grades"), help_text=_("One a line, the weakest first. Empty: the usual words.")
    )
    tie = forms.BooleanField(label=_("A tie is an answer"), required=False)
    both_bad = forms.BooleanField(label=_("Both bad is an answer"), required=False)
    unrankable = forms.BooleanField(label=_("A ranking may leave responses out, by saying so"), required=False)
    criteria_first = forms.BooleanField(label=_("Criteria stand before the overall question"), required=False)
    safety = forms.BooleanField(
        label=_("Safety of each response"), required=False, help_text=_("Safe or unsafe, in absolute terms.")
    )
    span_reasons = LinesField(
        label=_("Reasons to mark text"), help_text=_("One a line. Empty: nothing can be marked.")
    )
    rationale = forms.ChoiceField(label=_("Reason in words"), choices=list(changes.RATIONALES.items()))
    rationale_from = forms.IntegerField(
        label=_("Required from grade"), required=False, min_value=0, max_value=MOST_STRENGTH,
        help_text=_("0: with every answer."),
    )  # fmt: skip
    rationale_words = forms.IntegerField(
        label=_("Words at least"), required=False, min_value=0, max_value=100,
        help_text=_("Wherever a reason is written. 0: no limit."),
    )  # fmt: skip
    chips = LinesField(label=_("Reasons to tick"), help_text=_("One a line, such as “clearer”."))
    rewrite = forms.ChoiceField(
        label=_("The labeler may write a better answer"), choices=list(changes.REWRITES.items())
    )
    chat = forms.BooleanField(
        label=_("Live chat"), required=False,
        help_text=_("Labelers write the prompts; two blind responses come from models as they watch."),
    )  # fmt: skip

    def definition(self) -> dict[str, Any]:
        given = dict(self.cleaned_data)
        return given | {name: given[name] or 0 for name in ("rationale_from", "rationale_words")}


class CriterionForm(forms.Form):
    """One row of the criteria. A row without a label is not there."""

    label = forms.CharField(label=_("Label"), required=False, max_length=120)
    kind = forms.ChoiceField(label=_("Kind"), choices=list(changes.KINDS.items()), initial="likert")
    low = forms.IntegerField(label=_("From"), required=False, min_value=-10, max_value=100, initial=1)
    high = forms.IntegerField(label=_("To"), required=False, min_value=-9, max_value=110, initial=5)
    low_word = forms.CharField(label=_("Word for the lowest"), required=False, max_length=60)
    high_word = forms.CharField(label=_("Word for the highest"), required=False, max_length=60)
    help = forms.CharField(label=_("Explanation"), required=False, max_length=300)
    required = forms.BooleanField(label=_("Must be answered"), required=False, initial=True)
    key = forms.CharField(
        label=_("Name in the data"), required=False, max_length=40, help_text=_("Empty: made from the label.")
    )

    @property
    def is_empty(self) -> bool:
        return self.is_valid() and not (self.cleaned_data["label"] or self.cleaned_data["key"])

    def definition(self) -> dict[str, Any]:
        given = dict(self.cleaned_data)
        for name in ("low", "high"):
            given[name] = self.fields[name].initial if given[name] is None else given[name]
        return given | {"key": given["key"] or key_of(given["label"])}


def key_of(label: str) -> str:
    """A label as one word: "Overall quality" is overall_quality."""
    word = re.sub(r"\W+", "_", label.lower()).strip("_")[:36]
    return word if word.isidentifier() else f"c_{word}"


class Composer:
    """A protocol while it is composed: the form, and a form for each criterion.

    data: what the browser said; without it the forms hold `protocol`. After a change of the rows, `focused` is the row
    whose buttons keep the focus, and `emptied` says that there is none.
    """

    def __init__(self, data: Mapping | None = None, *, protocol: Protocol | None = None):
        if data is None:
            data = as_data(protocol or Protocol())
        self._open(data, rows_of(data))

    def _open(self, data: Mapping, rows: list[dict]) -> None:
        self.data, self.focused, self.emptied = data, None, False
        self.form = ProtocolForm(data, label_suffix="")
        self.rows = [CriterionForm(row, prefix=f"criterion_{i}", label_suffix="") for i, row in enumerate(rows)]

    @property
    def full(self) -> bool:
        return len(self.rows) >= MOST_CRITERIA

    def change_rows(self, do: str) -> None:
        """Add a row ("add"), or move or remove one ("up:2", "down:2", "remove:2"); anything else changes nothing."""
        rows = [plain(row) for row in self.rows]
        focused = changed_rows(rows, do)
        self._open(self.data, [prefixed(row, number) for number, row in enumerate(rows)])
        if do == "add" and focused is not None:
            self.rows[focused].fields["label"].widget.attrs["autofocus"] = True
        else:
            self.focused, self.emptied = focused, not rows

    def protocol(self) -> Protocol | None:
        """What is composed; None where it cannot be so, which the fields say then."""
        said = [row for row in self.rows if not row.is_empty]
        if not self.form.is_valid() or not all(row.is_valid() for row in said):
            return None
        try:
            return parse(self.form.definition() | {"criteria": [row.definition() for row in said]})
        except BadProtocol as refusal:
            self._say(str(refusal), said)
            return None

    def _say(self, refusal: str, rows: list[CriterionForm]) -> None:
        """Put a refusal at the field that it names before its colon."""
        name, *about = refusal.partition(":")[0].split()
        if name == "criteria" and about:
            row = next((row for row in rows if row.definition()["key"] == about[0]), None)
            if row is not None:
                return row.add_error(about[1] if about[1:] and about[1] in row.fields else None, refusal)
        self.form.add_error(name if name in self.form.fields else None, refusal)

    @property
    def problems(self) -> list[str]:
        """Every error with the label of its field, for the summary."""
        found = [(form, field, error) for form in (self.form, *self.rows) for field, error in form.errors.items()]
        return [
            error[0] if field == "__all__" else f"{form.fields[field].label}: {error[0]}"
            for form, field, error in found
        ]


def as_data(protocol: Protocol) -> dict[str, Any]:
    """The protocol as the browser would say it."""
    said = asdict(protocol)
    criteria = said.pop("criteria")
    said |= {name: "\n".join(said[name]) for name in LISTS} | {"criteria": str(len(criteria))}
    for number, criterion in enumerate(criteria):
        said |= prefixed(criterion, number)
    return said


def rows_of(data: Mapping) -> list[dict]:
    count = data.get("criteria", "")
    count = min(int(count), MOST_CRITERIA) if count.isdecimal() and len(count) < 4 else 0
    names = [f"criterion_{number}-" for number in range(count)]
    return [{key: data[key] for key in data if key.startswith(name)} for name in names]


def plain(row: CriterionForm) -> dict[str, Any]:
    return {key.partition("-")[2]: value for key, value in row.data.items()}


def prefixed(row: Mapping, number: int) -> dict[str, Any]:
    return {f"criterion_{number}-{key}": value for key, value in row.items()}


def changed_rows(rows: list, do: str) -> int | None:
    """Change the rows in place; returns the row to look at now."""
    if do == "add" and len(rows) < MOST_CRITERIA:
        new = Criterion(key="", label="")
        rows.append(asdict(new))
        return len(rows) - 1
    found = MOVE.fullmatch(do)
    if not found or int(found[2]) >= len(rows):
        return None
    return CHANGES[found[1]](rows, int(found[2]))


def _remove(rows: list, at: int) -> int | None:
    del rows[at]
    return min(at, len(rows) - 1) if rows else None


def _swap(rows: list, at: int, to: int) -> int:
    if 0 <= to < len(rows):
        rows[at], rows[to] = rows[to], rows[at]
        return to
    return at


CHANGES: dict[str, Callable[[list, int], int | None]] = {
    "up": lambda rows, at: _swap(rows, at, at - 1),
    "down": lambda rows, at: _swap(rows, at, at + 1),
    "remove": _remove,
}
