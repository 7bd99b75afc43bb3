"""What an admin does with upstream models."""

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from labelapp.chat import upstreams
from labelapp.chat.refusals import BadUpstream
from labelapp.labeling.rewrites import HUMAN
from labelapp.models import Project, UpstreamModel, User

TRIAL = [{"role": "user", "content": "Say hello."}]
TRIAL_SAMPLING = {"max_tokens": 8, "temperature": 0}


def add_upstream(
    *, project: Project, by: User, name: str, base_url: str, model: str, key_variable: str
) -> UpstreamModel:
    """Raises BadUpstream for an address or a variable that is not allowed, and for a name that is taken."""
    name, model = name.strip(), model.strip()
    if not (2 <= len(name) <= 80 and name.isprintable()) or name == HUMAN:
        raise BadUpstream(_("Name the model in 2 to 80 printable characters, other than “human”."))
    if not (1 <= len(model) <= 200 and model.isprintable()):
        raise BadUpstream(_("Say in 1 to 200 printable characters how the API calls the model."))
    base_url = upstreams.check_address(base_url.strip())
    if len(base_url) > 300:
        raise BadUpstream(_("The address has more than 300 characters."))
    row = UpstreamModel(project=project, name=name, base_url=base_url, model=model, created_by=by)
    row.key_variable = upstreams.check_key_variable(key_variable.strip())
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError as error:
        taken = _("There is a model called %(name)s here already; choose another name.")
        raise BadUpstream(taken % {"name": name}) from error
    return row


def switch(*, upstream: UpstreamModel, on: bool) -> None:
    """Let it answer from the next turn on, or no more. Turns that it answers now go on."""
    rows = UpstreamModel.objects.filter(pk=upstream.pk)
    rows.update(disabled_at=None) if on else rows.filter(disabled_at=None).update(disabled_at=Now())


async def try_upstream(upstream: UpstreamModel) -> str:
    """What it says to a tiny request. Raises ModelFailed."""
    said = ""
    events = upstreams.stream(upstream, TRIAL, TRIAL_SAMPLING)
    try:
        async for event in events:
            said += event.get("text", "")
            if len(said) > 200:
                break
    finally:
        await events.aclose()
    return said[:200]
