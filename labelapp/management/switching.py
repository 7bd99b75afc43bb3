"""What `promote` and `rollback` share: their options, waiting for the engine, and how the outcome is said."""

import json

from django.core.management.base import CommandError

from labelapp.management.asking import wait_until
from labelapp.models import Deployment, Version
from labelapp.rounds.promote import Promotion


def add_switch_options(parser) -> None:
    parser.add_argument("--reason", default="", help="why; required when the gate did not pass")
    parser.add_argument("--by", metavar="USERNAME", help="the person who does this, for the history")
    parser.add_argument("--epoch", type=int, help="refuse unless the alias is at this epoch")
    parser.add_argument("--wait", action="store_true", help="wait until the engine has loaded the version")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def waited(done: Promotion, target: Version) -> Promotion:
    """The promotion once the engine has loaded the version. Raises CommandError where it did not come to that."""
    if done.event:
        return done
    pk = done.deployment.pk
    wait_until(lambda: not Deployment.objects.filter(pk=pk, pending=target).exists())
    now = Deployment.objects.select_related("version").get(pk=pk)
    event = now.events.filter(epoch__gt=done.deployment.epoch, version=target).first()
    if event is None:
        raise CommandError(now.pending_error or "The switch was cancelled by somebody else.")
    return Promotion(now, event)


def said(done: Promotion, *, as_json: bool) -> str:
    now, event = done
    if as_json:
        return json.dumps(facts(done))
    if event:
        switched = f"epoch {event.epoch} ({event.switch_seconds:.2f} s)"
        return f"{now.alias} answers from {event.version.name} since {switched}."
    return f"{now.pending.name} is being loaded; {now.alias} switches to it as soon as it can answer."


def facts(done: Promotion) -> dict:
    now, event = done
    return {
        "alias": now.alias,
        "epoch": now.epoch,
        "version": now.version.name if now.version else None,
        "previous": event.previous.name if event and event.previous else None,
        "pending": now.pending.name if now.pending else None,
        "switch_seconds": event.switch_seconds if event else None,
    }
