"""Messages about ended rounds: who gets them, what they say, and what happens where nobody takes them."""

import base64
import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.core import mail
from django.db import IntegrityError, connection, transaction
from django.urls import reverse
from django.utils import timezone

from labelapp.models import Delivery, Round, Subscription
from labelapp.rounds import lease
from labelapp.rounds.actions import request_cancel
from labelapp.rounds.notices import outbox
from labelapp.rounds.notices.webhook import AddressRefused, check_address, secret_of, signature
from tests.factories import make_project, make_user
from tests.rounds.material import queue_reward_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    admin = make_user()
    admin.email = "ada@example.org"
    admin.save()
    return make_project(admin=admin, labeler=make_user(), researcher=make_user())


@pytest.fixture
def receiver():
    """A real receiver on the loopback: `answers` are the next statuses, `got` what came."""
    got, answers = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((dict(self.headers), body))
            status = answers.pop(0) if answers else 204
            self.send_response(status)
            if status == 302:
                self.send_header("location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.got, server.answers, server.url = got, answers, f"http://127.0.0.1:{server.server_port}/hook"
    yield server
    server.shutdown()
    server.server_close()


def admin_of(project):
    return project.memberships.get(role="admin").user


def subscribe(project, address, kind="webhook", **fields) -> Subscription:
    about = {"origin": "https://labels.example.org", "created_by": admin_of(project)} | fields
    return Subscription.objects.create(project=project, kind=kind, address=address, **about)


def end_round(project, state=Round.State.FAILED, **why) -> Round:
    round = queue_reward_round(project)
    with lease.fenced(lease.claim(round.pk, owner="test")) as held:
        lease.close(held, state, **why)
    return round


def overdue(delivery) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(due_at=timezone.now() - timedelta(seconds=1))


def test_a_webhook_hears_of_a_rounds_end_in_a_signed_message(project, receiver):
    about = subscribe(project, receiver.url)
    round = end_round(project, code="oom", error="Out of memory.")
    assert outbox.deliver_due() == 1
    (headers, body), told = receiver.got[0], json.loads(receiver.got[0][1])
    assert told["type"] == "round.failed" and told["data"]["error_code"] == "oom"
    assert told["data"]["url"] == f"https://labels.example.org/p/{project.slug}/rounds/{round.number}/"
    expected = signature(secret_of(about), headers["webhook-id"], int(headers["webhook-timestamp"]), body)
    assert headers["webhook-signature"] == expected
    assert Delivery.objects.get().state == "delivered" and outbox.deliver_due() == 0


def test_the_signature_is_that_of_the_standards_example():
    """The worked example of Standard Webhooks' reference libraries."""
    made = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_each_subscription_has_a_secret_of_its_own(project, receiver):
    first, second = subscribe(project, receiver.url), subscribe(project, receiver.url + "/2")
    assert secret_of(first) != secret_of(second)
    assert len(base64.b64decode(secret_of(first).removeprefix("whsec_"))) == 32


def test_an_admin_is_written_to(project):
    subscribe(project, "ada@example.org", kind="email")
    end_round(project, code="nan", error="The loss is not finite.")
    outbox.deliver_due()
    (message,) = mail.outbox
    assert message.to == ["ada@example.org"] and "failed" in message.subject
    assert "nan: The loss is not finite." in message.body and "https://labels.example.org/p/" in message.body


def test_one_who_is_no_admin_any_more_is_not_written_to(project):
    about = subscribe(project, "ada@example.org", kind="email")
    project.memberships.filter(role="admin").update(role="labeler")
    end_round(project)
    outbox.deliver_due()
    about.refresh_from_db()
    assert not mail.outbox and about.ended_at and "no admin" in about.ended_because


def test_a_message_that_nobody_takes_is_tried_again_and_given_up_at_last(project, receiver):
    subscribe(project, receiver.url)
    receiver.answers += [500] * (len(outbox.WAITS) + 1)
    end_round(project)
    ids = set()
    for attempt, wait in enumerate([*outbox.WAITS, None], start=1):
        assert outbox.deliver_due() == 1 and outbox.deliver_due() == 0  # not due again at once
        row = Delivery.objects.get()
        assert (row.attempts, row.outcome) == (attempt, "answered 500")
        ids.add(receiver.got[-1][0]["webhook-id"])
        if wait is not None:
            assert row.state == "pending" and abs(row.due_at - timezone.now() - wait) < timedelta(seconds=60)
            overdue(row)
    assert row.state == "failed" and row.finished_at and len(ids) == 1


def test_a_receiver_that_is_back_gets_the_message(project, receiver):
    subscribe(project, receiver.url)
    receiver.answers += [503]
    end_round(project)
    outbox.deliver_due()
    overdue(Delivery.objects.get())
    outbox.deliver_due()
    assert Delivery.objects.get().state == "delivered" and len(receiver.got) == 2


def test_gone_ends_the_subscription(project, receiver):
    about = subscribe(project, receiver.url)
    receiver.answers += [410]
    end_round(project)
    outbox.deliver_due()
    about.refresh_from_db()
    assert about.ended_at and Delivery.objects.get().state == "failed"


def test_a_redirect_is_not_followed(project, receiver):
    subscribe(project, receiver.url)
    receiver.answers += [302]
    end_round(project)
    outbox.deliver_due()
    assert len(receiver.got) == 1 and Delivery.objects.get().outcome == "answered 302"


def test_nobody_listening_is_an_outcome(project):
    subscribe(project, "http://127.0.0.1:9/hook")
    end_round(project)
    outbox.deliver_due()
    assert Delivery.objects.get().outcome.startswith("ConnectError")


def test_a_host_that_is_allowed_no_more_gets_nothing(project, receiver, settings):
    subscribe(project, receiver.url)
    settings.WEBHOOK_HOSTS = []
    end_round(project)
    outbox.deliver_due()
    assert not receiver.got and "WEBHOOK_HOSTS" in Delivery.objects.get().outcome


@pytest.mark.parametrize(
    "address",
    ["ftp://127.0.0.1/", "https://169.254.169.254/x", "http://10.0.0.1/", "https://u:p@127.0.0.1/", "http://[::1", "x"],
)  # fmt: skip
def test_addresses_that_this_server_does_not_call(address):
    with pytest.raises(AddressRefused):
        check_address(address)


def test_an_undone_end_tells_nobody(project, receiver):
    subscribe(project, receiver.url)
    round = queue_reward_round(project)
    held = lease.claim(round.pk, owner="test")
    with pytest.raises(RuntimeError), lease.fenced(held) as row:
        lease.close(row, Round.State.DONE)
        raise RuntimeError
    assert not Delivery.objects.exists()


def test_a_cancelled_waiting_round_is_told_too_and_one_that_goes_on_is_not(project, receiver):
    subscribe(project, receiver.url)
    round = queue_reward_round(project)
    request_cancel(round=round, by=admin_of(project))
    outbox.deliver_due()
    assert [json.loads(body)["type"] for _, body in receiver.got] == ["round.cancelled"]


def test_other_projects_hear_nothing(project, receiver):
    subscribe(make_project(admin=make_user()), receiver.url)
    end_round(project)
    assert not Delivery.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_senders_send_one_message(project, receiver):
    subscribe(project, receiver.url)
    end_round(project)
    pk, tried, together = Delivery.objects.get().pk, [], threading.Barrier(4)

    def send():
        together.wait()
        tried.append(outbox.deliver(pk))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tried) == [False, False, False, True] and len(receiver.got) == 1


def test_the_word_of_a_sender_that_was_believed_dead_does_not_count(project, receiver):
    subscribe(project, receiver.url)
    end_round(project)
    stale = Delivery.objects.get()
    Delivery.objects.update(attempts=2)
    outbox.settle(stale, "failed", "late")
    assert Delivery.objects.get().state == "pending"


def test_an_event_is_announced_once_a_subscription(project, receiver):
    about = subscribe(project, receiver.url)
    event = end_round(project).events.get(kind="failed")
    outbox.announce(event)
    assert Delivery.objects.count() == 1
    with pytest.raises(IntegrityError, match="one_message"), transaction.atomic():
        Delivery.objects.create(subscription=about, event=event)


def test_an_address_has_one_standing_subscription_and_an_end_has_its_time(project, receiver):
    about = subscribe(project, receiver.url)
    with pytest.raises(IntegrityError, match="one_standing"), transaction.atomic():
        subscribe(project, receiver.url)
    with pytest.raises(IntegrityError, match="ended_delivery"), transaction.atomic():
        Delivery.objects.create(subscription=about, state="failed")
    outbox.end(about, because="")
    subscribe(project, receiver.url)


def test_an_admin_adds_a_webhook_tries_it_and_ends_it(client, project, receiver):
    client.force_login(admin_of(project))
    page = reverse("notices", args=[project.slug])
    assert "WEBHOOK_HOSTS" in client.post(page, {"address": "https://10.1.2.3/x"}).content.decode()
    assert client.post(page, {"address": receiver.url}).status_code == 302
    about = Subscription.objects.get()
    assert secret_of(about) in client.get(page).content.decode()
    client.post(reverse("notices_trial", args=[project.slug, about.pk]))
    outbox.deliver_due()
    assert json.loads(receiver.got[0][1])["type"] == "round.trial"
    client.post(reverse("notices_end", args=[project.slug, about.pk]))
    about.refresh_from_db()
    assert about.ended_at and f"/{about.pk}/trial/" not in client.get(page).content.decode()
    client.post(reverse("notices_email", args=[project.slug]))
    assert Subscription.objects.get(kind="email").address == "ada@example.org"


@pytest.mark.parametrize("role", ["labeler", "researcher", None])
def test_only_the_projects_admins_come_here(client, project, receiver, role):
    about = subscribe(project, receiver.url)
    stranger = make_user()
    make_project(admin=stranger)
    client.force_login(project.memberships.get(role=role).user if role else stranger)
    routes = [("notices", []), ("notices_email", []), ("notices_trial", [about.pk]), ("notices_end", [about.pk])]
    answers = [client.post(reverse(name, args=[project.slug, *rest])).status_code for name, rest in routes]
    assert set(answers) == {403 if role else 404} and not Delivery.objects.exists()


def test_another_projects_subscription_is_not_reached_through_ones_own(client, project, receiver):
    about, stranger = subscribe(project, receiver.url), make_user()
    own = make_project(admin=stranger)
    client.force_login(stranger)
    for name in ("notices_trial", "notices_end"):
        assert client.post(reverse(name, args=[own.slug, about.pk])).status_code == 404
