"""The labeler's page as it would look under a protocol that is still composed."""

from django.db.models import Count
from django.http import HttpRequest
from django.template.loader import render_to_string

from labelapp.labeling.desk import Desk, make_item
from labelapp.labeling.protocol import Protocol
from labelapp.models import Comparison, ComparisonCompletion, Project, Slot

LOOKED_AT = 50  # of the newest comparisons
PROMPT = "Explain to a ten-year-old why the sky is blue."
ANSWERS = (
    "Sunlight looks white, but it is **all colours mixed**. Air bounces blue light around much more than red light, so "
    "blue comes to your eyes from everywhere.",
    "The sky is blue because it reflects the oceans.",
    "Light travels in waves, and blue waves are short. Short waves hit the tiny parts of air and *scatter*:\n\n"
    "1. The sun sends every colour.\n2. Air scatters blue.\n3. You see blue wherever you look.",
    "Because of Rayleigh scattering, whose strength is proportional to the inverse fourth power of the wavelength.",
)


def sample(project: Project, protocol: Protocol) -> tuple[list[dict], list[str]]:
    """Messages and completions to show: the project's newest comparison that fits in size, or made-up ones."""
    likely = range(3, 10) if protocol.form == "ranking" else protocol.sizes
    if protocol.form == "pair":
        likely = range(2, 3)
    newest = list(project.comparisons.order_by("-pk").values_list("pk", flat=True)[:LOOKED_AT])
    sizes = dict(_sizes(newest))
    fitting = next((pk for pk in newest if sizes.get(pk, 0) in likely), None)
    if fitting is None:
        count = {"pair": 2, "rating": 2, "demonstration": 0}.get(protocol.form, len(ANSWERS))
        return [{"role": "user", "content": PROMPT}], list(ANSWERS[:count])
    comparison = Comparison.objects.select_related("prompt").get(pk=fitting)
    return comparison.prompt.messages, [completion.text for completion in comparison.ordered_completions()]


def _sizes(comparisons: list[int]):
    rows = ComparisonCompletion.objects.filter(comparison__in=comparisons).order_by()
    return rows.values_list("comparison").annotate(n=Count("pk"))


def preview_document(request: HttpRequest, project: Project, protocol: Protocol) -> str:
    """A whole page: what a labeler would get, with a sample. It goes into a frame that runs nothing."""
    messages, texts = sample(project, protocol)
    slot = Slot(project=project, display_order=list(range(len(texts))))
    item = make_item(slot=slot, protocol=protocol, protocol_id=0, messages=messages, texts=texts, draft=None)
    desk = Desk(judged=0, judged_today=0, usual=None, last=None, guideline=None, item=item, empty=None)
    return render_to_string("setup/preview_page.html", {"desk": desk, "item": item}, request)
