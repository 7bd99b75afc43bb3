"""What a message says: the body of a webhook, and an e-mail's subject and text."""

from typing import Any

from django.urls import reverse

from labelapp.models import Delivery, Round

TRIAL = "round.trial"
WORDS = {"done": "is done", "failed": "failed", "cancelled": "was cancelled"}


def body_of(delivery: Delivery) -> dict[str, Any]:
    """{"type", "timestamp", "data"} as Standard Webhooks 1.0 asks; the data name the round and hold no model output."""
    event, about = delivery.event, delivery.subscription
    moment = (event or delivery).created_at
    if event is None:
        return {"type": TRIAL, "timestamp": moment.isoformat(), "data": {"project": about.project.slug}}
    data = told(event.round) | {"url": link_of(about.origin, event.round)}
    return {"type": f"round.{event.kind}", "timestamp": moment.isoformat(), "data": data}


def told(round: Round) -> dict[str, Any]:
    versions = round.versions.order_by("pk").prefetch_related("audits")
    return {
        "project": round.project.slug,
        "round": round.number,
        "kind": round.kind,
        "state": round.state,
        "recipe": round.recipe["title"],
        "error_code": round.error_code,
        "error": round.error,
        "versions": [{"name": made.name, "verdict": verdict_of(made)} for made in versions],
    }


def verdict_of(version) -> str:
    """Of the newest audit; empty where nothing was measured."""
    audits = sorted(version.audits.all(), key=lambda audit: audit.pk)
    return audits[-1].verdict if audits else ""


def link_of(origin: str, round: Round) -> str:
    return origin + reverse("round", args=[round.project.slug, round.number])


def email_of(delivery: Delivery) -> tuple[str, str]:
    """(subject, text)."""
    project = delivery.subscription.project
    if delivery.event is None:
        return f"{project.name}: a trial message", "This is how Labelapp will tell you that a round has ended."
    round, data = delivery.event.round, told(delivery.event.round)
    subject = f"{project.name}: round {round.number} {WORDS[delivery.event.kind]}"
    made = [f"Made {each['name']}" + (f": the gate says {each['verdict']}" if each["verdict"] else "")
            for each in data["versions"]]  # fmt: skip
    why = [f"{round.error_code}: {round.error}"] if round.error else []
    lines = [data["recipe"], *why, *made, link_of(delivery.subscription.origin, round)]
    return subject, "\n\n".join(lines)
