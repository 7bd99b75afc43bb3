"""What to change of many comparisons: one action, and what it needs to know."""

from datetime import UTC

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from labelapp.accounts.people import PeopleRefused, checked_tags
from labelapp.models import Project

ACTIONS = [
    ("priority", _("Set the priority")),
    ("batch", _("Put into a batch")),
    ("tags", _("Require tags")),
    ("overlap", _("Set the overlap")),
    ("close", _("Close open places")),
    ("reopen", _("Open closed places again")),
    ("reask", _("Ask again what was answered")),
]
MOST_OVERLAP = 20
INTEGER = 2**31 - 1


class OrderForm(forms.Form):
    """One action with its values. The values of the others are left alone."""

    action = forms.ChoiceField(choices=[("", _("choose")), *ACTIONS], label=_("What to do"))
    batch = forms.ChoiceField(required=False, label=_("Batch"), help_text=_("None: out of any batch."))
    new = forms.CharField(required=False, max_length=120, label=_("Or a new batch"), help_text=_("Its name."))
    priority = forms.IntegerField(
        required=False, min_value=-INTEGER, max_value=INTEGER, label=_("Priority"),
        help_text=_("Lower is handed out first. Also of a new batch."),
    )  # fmt: skip
    deadline = forms.DateTimeField(
        required=False, label=_("Deadline (UTC)"), help_text=_("Of the batch; empty leaves it as it is."),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )  # fmt: skip
    tags = forms.CharField(
        required=False, max_length=1500, label=_("Tags"), help_text=_("Between commas. None: for everybody.")
    )
    overlap = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_OVERLAP, label=_("Overlap"),
        help_text=_("How many different people judge each."),
    )  # fmt: skip
    note = forms.CharField(
        required=False, max_length=1000, label=_("Why it is asked again"), help_text=_("The labelers read it.")
    )

    def __init__(self, data=None, *, project: Project, belongs_to: str = ""):
        """belongs_to: the id of the HTML form, where the fields stand outside of it."""
        super().__init__(data, label_suffix="", auto_id="order_%s")
        for field in self.fields.values() if belongs_to else ():
            field.widget.attrs["form"] = belongs_to
        self.fields["batch"].choices = [("", _("none")), *project.batches.order_by("name").values_list("pk", "name")]

    def clean_tags(self):
        try:
            return checked_tags(self.cleaned_data["tags"].split(","))
        except PeopleRefused as refusal:
            raise ValidationError(str(refusal)) from refusal

    def clean(self):
        given = super().clean()
        needed = {"priority": "priority", "overlap": "overlap", "reask": "note"}.get(given.get("action", ""))
        if needed and needed not in self.errors and given.get(needed) in (None, ""):
            self.add_error(needed, _("Fill this in: the action needs it."))
        if given.get("action") == "batch" and given.get("batch") and given.get("new"):
            self.add_error("new", _("Choose a batch or name a new one, not both."))
        return given

    def order(self) -> dict:
        """The action with its own values alone, as JSON keeps it."""
        given = self.cleaned_data
        deadline = given["deadline"] and given["deadline"].replace(tzinfo=UTC).isoformat()
        own = {
            "priority": {"priority": given["priority"]},
            "batch": {
                "batch": given["batch"], "new": given["new"], "deadline": deadline, "priority": given["priority"]
            },
            "tags": {"tags": given["tags"]},
            "overlap": {"overlap": given["overlap"]},
            "reask": {"note": given["note"]},
        }  # fmt: skip
        return {"action": given["action"], **own.get(given["action"], {})}
