"""Saying what the right answer to one comparison is, so that labelers are checked with it."""

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from labelapp.accounts.permissions import project_page
from labelapp.labeling.quality.agreement import BOTH_BAD
from labelapp.labeling.quality.gold import make_gold, remove_gold
from labelapp.models import Comparison, Completion, Project


class GoldForm(forms.Form):
    """The best completions, several where they tie, or that all are bad; and why."""

    best = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, label=gettext_lazy("The best one, or those that tie")
    )
    both_bad = forms.BooleanField(required=False, label=gettext_lazy("All of them are bad"))
    explanation = forms.CharField(
        required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 3}), label=gettext_lazy("Why"),
        help_text=gettext_lazy("Markdown, shown to the labeler after the answer. May stay empty."),
    )  # fmt: skip

    def __init__(self, *args, size: int, **kwargs):
        super().__init__(*args, label_suffix="", **kwargs)
        self.fields["best"].choices = [(str(place), str(place + 1)) for place in range(size)]
        self.size = size

    def clean(self):
        given = super().clean()
        if bool(given.get("best")) == bool(given.get("both_bad")) and not self.errors:
            self.add_error("best", _("Choose the best ones, or say that all are bad: one of the two."))
        return given

    def gold(self) -> list[list[int]] | dict:
        """The known answer: the best in the first tier, the others below them."""
        if self.cleaned_data["both_bad"]:
            return BOTH_BAD
        best = sorted(map(int, self.cleaned_data["best"]))
        others = [place for place in range(self.size) if place not in best]
        return [best, others] if others else [best]


@require_http_methods(["GET", "HEAD", "POST"])
@project_page("manage")
def gold(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """The form, with what is known already; a POST stores it."""
    found = get_object_or_404(Comparison.objects.select_related("prompt"), project=project, pk=number)
    completions = found.ordered_completions()
    data = request.POST if request.method == "POST" else None
    form = GoldForm(data, size=len(completions), initial=initial(found))
    if request.method == "POST" and form.is_valid():
        make_gold(found, gold=form.gold(), explanation=form.cleaned_data["explanation"])
        messages.success(request, _("Comparison %(number)s is gold now: it checks people.") % {"number": found.pk})
        return redirect("comparison", project.slug, found.pk)
    return _page(request, found, completions, form)


def initial(comparison: Comparison) -> dict:
    if comparison.gold is None:
        return {}
    both_bad = comparison.gold == BOTH_BAD
    best = [] if both_bad else [str(place) for place in comparison.gold[0]]
    return {"best": best, "both_bad": both_bad, "explanation": comparison.explanation}


def _page(request: HttpRequest, found: Comparison, completions: list[Completion], form: GoldForm) -> HttpResponse:
    context = {"section": "data", "comparison": found, "completions": completions, "form": form}
    return TemplateResponse(request, "datasets/gold.html", context, status=422 if form.errors else 200)


@require_POST
@project_page("manage")
def gold_remove(request: HttpRequest, project: Project, number: int) -> HttpResponse:
    """Its answer is not known after all."""
    found = get_object_or_404(Comparison, project=project, pk=number)
    remove_gold(found)
    messages.success(request, _("Comparison %(number)s is no gold any more.") % {"number": found.pk})
    return redirect("comparison", project.slug, found.pk)
