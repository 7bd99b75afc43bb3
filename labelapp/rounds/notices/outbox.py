"""Messages about ended rounds: written in the transaction that ends the round, sent afterwards, and tried again."""

import smtplib
from datetime import timedelta

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from labelapp.accounts.permissions import MAY
from labelapp.celery import ring
from labelapp.models import Delivery, Membership, RoundEvent, Subscription
from labelapp.rounds.notices.messages import body_of, email_of
from labelapp.rounds.notices.webhook import AddressRefused, NotTaken, post

DELIVER = "labelapp.tasks.deliver"
SENDING = timedelta(minutes=2)  # after which a sender that has said nothing is believed dead
WAITS = [timedelta(seconds=5), *(timedelta(minutes=m) for m in (5, 30, 120, 300, 600))]  # after each failed attempt
AT_ONCE = 50
State = Delivery.State


def announce(event: RoundEvent) -> None:
    """Queue a message for every standing subscription of the event's project; in the event's transaction."""
    standing = Subscription.objects.filter(project=event.round.project_id, ended_at=None)
    made = Delivery.objects.bulk_create(
        [Delivery(subscription=each, event=event) for each in standing], ignore_conflicts=True
    )
    if made:
        ring(DELIVER)


def send_trial(subscription: Subscription) -> Delivery:
    made = Delivery.objects.create(subscription=subscription)
    ring(DELIVER)
    return made


def deliver_due() -> int:
    """Send what is due, at most AT_ONCE messages; returns how many were tried. Safe to run anywhere, twice."""
    due = Delivery.objects.filter(state=State.PENDING, due_at__lte=Now()).order_by("due_at")
    return sum(deliver(pk) for pk in list(due.values_list("pk", flat=True)[:AT_ONCE]))


def deliver(pk: int) -> bool:
    """Try one message unless it is somebody else's, not due, or at its end."""
    waiting = Delivery.objects.filter(pk=pk, state=State.PENDING, due_at__lte=Now())
    if not waiting.update(due_at=Now() + SENDING, attempts=F("attempts") + 1):
        return False
    whole = ("subscription__project", "subscription__created_by", "event__round__project")
    found = Delivery.objects.select_related(*whole).get(pk=pk)
    if found.subscription.ended_at or not may_know(found.subscription):
        return settle(found, State.FAILED, "The subscription had ended.")
    try:
        outcome = send(found)
    except (NotTaken, AddressRefused, smtplib.SMTPException, OSError) as error:
        return fail(found, error)
    return settle(found, State.DELIVERED, outcome)


def may_know(subscription: Subscription) -> bool:
    """Whether an e-mail's reader is still an admin there; its subscription ends otherwise. Webhooks belong to all."""
    members = Membership.objects.of(subscription.created_by).filter(project=subscription.project)
    if subscription.kind != Subscription.Kind.EMAIL or members.filter(role__in=MAY["manage"]).exists():
        return True
    end(subscription, because="Its reader is no admin here any more.")
    return False


def send(delivery: Delivery) -> str:
    about = delivery.subscription
    if about.kind == Subscription.Kind.WEBHOOK:
        return post(about, str(delivery.message_id), body_of(delivery))
    send_mail(*email_of(delivery), None, [about.address])
    return "handed to the mail server"


@transaction.atomic
def fail(delivery: Delivery, error: Exception) -> bool:
    """Wait and try again; end with the last attempt, and the subscription too where its receiver asks for that."""
    reason = str(error) or type(error).__name__
    if getattr(error, "gone", False):
        end(delivery.subscription, because=f"The receiver {reason}: it wants no more.")
        return settle(delivery, State.FAILED, reason)
    if delivery.attempts > len(WAITS):
        return settle(delivery, State.FAILED, reason)
    mine(delivery).update(due_at=Now() + WAITS[delivery.attempts - 1], outcome=reason[:300])
    return True


def settle(delivery: Delivery, state: str, outcome: str) -> bool:
    mine(delivery).update(state=state, outcome=outcome[:300], finished_at=Now())
    return True


def mine(delivery: Delivery):
    """The row, unless another sender took it in the meantime: then this one's word does not count."""
    return Delivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts, state=State.PENDING)


def end(subscription: Subscription, *, because: str) -> None:
    Subscription.objects.filter(pk=subscription.pk, ended_at=None).update(ended_at=Now(), ended_because=because[:200])
