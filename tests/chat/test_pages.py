"""The chat pages: who may do what, what a page tells and what it does not, and the addresses of upstream models."""

from dataclasses import replace
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse

from labelapp.chat.actions import end
from labelapp.chat.refusals import BadUpstream
from labelapp.chat.upstreams import check_address, check_key_variable
from labelapp.labeling.consent import accept_consent
from labelapp.models import ChatTurn, Consent, ConsentVersion, Conversation, Judgment, UpstreamModel
from tests.chat.conftest import PAIR, SLIDERS, add_model, ask_under, begin, chat
from tests.factories import add_member, make_project, make_user
from tests.site.languages import CODE, english, speak_made_up

pytestmark = pytest.mark.django_db(transaction=True)
HTMX = {"HX-Request": "true"}


@pytest.fixture
def people(project, labeler):
    people = {role: make_user() for role in ("reviewer", "researcher", "admin")}
    for role, user in people.items():
        add_member(project, user, role)
    return people | {"labeler": labeler, "other labeler": join(project), "stranger": make_user()}


def join(project):
    user = make_user()
    add_member(project, user, "labeler")
    return user


def routes(project, turn, model) -> dict:
    """Every route: how it is called, and the statuses of labeler, admin, researcher, other labeler and stranger."""
    own, all_label, manage = (404, 404, 403, 404, 404), (200, 200, 403, 200, 404), (403, 200, 403, 403, 404)
    about, on = [project.slug, turn.pk], [project.slug, model.pk]
    return {
        reverse("chat", args=[project.slug]): ("get", {}, all_label),
        reverse("chat-ask", args=[project.slug]): ("post", {"key": "bad"}, (422, 422, 403, 422, 404)),
        reverse("chat-events", args=about): ("get", {}, (200, *own[1:])),
        reverse("chat-judge", args=about): ("post", {}, (422, *own[1:])),
        reverse("chat-again", args=about): ("post", {}, (409, *own[1:])),
        reverse("chat-go-on", args=about): ("post", {}, (409, *own[1:])),
        reverse("chat-past", args=[project.slug, turn.conversation_id]): ("get", {}, own),  # it has not ended
        reverse("chat-models", args=[project.slug]): ("get", {}, manage),
        reverse("chat-add-model", args=[project.slug]): ("post", {}, (403, 422, 403, 403, 404)),
        reverse("chat-test-model", args=on): ("post", {}, (403, 302, 403, 403, 404)),
        reverse("chat-switch-model", args=on): ("post", {}, (403, 302, 403, 403, 404)),
        reverse("chat-end", args=[project.slug, turn.conversation_id]): ("post", {}, (303, *own[1:])),
    }


def test_every_route_asks_who_comes(project, people):
    turn = chat(project, people["labeler"])
    table = routes(project, turn, project.upstream_models.first())
    for number, role in reversed(list(enumerate(["labeler", "admin", "researcher", "other labeler", "stranger"]))):
        client = Client()
        client.force_login(people[role])
        for url, (method, data, statuses) in table.items():
            answer = getattr(client, method)(url, data)
            assert answer.status_code == statuses[number], (role, url)
            if answer.streaming:
                answer.close()


def test_without_sign_in_every_route_leads_to_it_and_without_a_token_nothing_is_posted(project, labeler):
    turn = chat(project, labeler)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(labeler)
    for url, (method, data, _) in routes(project, turn, project.upstream_models.first()).items():
        assert getattr(Client(), method)(url, data).status_code == 302, url
        if method == "post":
            assert strict.post(url, data).status_code == 403, url
    assert ChatTurn.objects.get().state == "ready"


def test_ids_of_another_project_are_not_found(client, project, labeler, upstream):
    turn = chat(project, labeler)
    other = make_project("elsewhere", labeler=labeler, admin=make_user())
    ask_under(other, PAIR)
    client.force_login(labeler)
    assert client.post(reverse("chat-judge", args=["elsewhere", turn.pk])).status_code == 404
    assert client.post(reverse("chat-end", args=["elsewhere", turn.conversation_id])).status_code == 404
    client.force_login(other.memberships.get(role="admin").user)
    foreign = project.upstream_models.first()
    assert client.post(reverse("chat-test-model", args=["elsewhere", foreign.pk])).status_code == 404


def test_without_script_the_page_waits_for_whole_answers(client, project, labeler):
    client.force_login(labeler)
    asked = client.post(reverse("chat-ask", args=[project.slug]), {"key": uuid4(), "prompt": "Argue for <b>tea</b>."})
    assert asked.status_code == 303
    page = client.get(asked.url).text
    assert page.count("Because of reason") == 2 and "&lt;b&gt;tea&lt;/b&gt;" in page
    assert "lion" not in page and "raven" not in page and "data-events" not in page
    turn = ChatTurn.objects.get()
    fields = {f"seen_{side.place}": len(side.text) for side in turn.sides.all()}
    said = {"submission_id": uuid4(), "answer": "1", **fields}
    judged = client.post(reverse("chat-judge", args=[project.slug, turn.pk]), said)
    assert judged.status_code == 303
    assert client.post(reverse("chat-judge", args=[project.slug, turn.pk]), said).status_code == 303
    assert Judgment.objects.count() == 1
    page = client.get(asked.url).text
    assert "Go on: turn 2" in page and "lion" not in page
    client.post(reverse("chat-end", args=[project.slug, turn.conversation_id]))
    page = client.get(reverse("chat-past", args=[project.slug, turn.conversation_id])).text
    assert "lion" in page and "raven" in page and "went on with it" in page
    assert "Ended" in client.get(asked.url).text


def test_a_refused_prompt_stays_in_its_field(client, project, labeler):
    client.force_login(labeler)
    url = reverse("chat-ask", args=[project.slug])
    answer = client.post(url, {"key": "no key", "prompt": "Dear words"}, headers=HTMX)
    assert answer.status_code == 422 and "Dear words</textarea>" in answer.text and answer["X-Section"] == "chat"
    project.upstream_models.update(disabled_at=project.created_at)
    answer = client.post(url, {"key": uuid4(), "prompt": "Dear words"}, headers=HTMX)
    assert answer.status_code == 409 and "No model can answer" in answer.text and "Dear words</textarea>" in answer.text


def test_where_no_model_can_answer_nobody_is_asked_to_write(client, project, labeler):
    client.force_login(labeler)
    url = reverse("chat", args=[project.slug])
    assert "<textarea" in client.get(url).text
    project.upstream_models.update(disabled_at=project.created_at)
    page = client.get(url).text
    assert "No model can answer now" in page and "<textarea" not in page
    project.upstream_models.filter(name="lion").update(disabled_at=None)
    assert "<textarea" in client.get(url).text


@pytest.mark.parametrize("seen", [{}, {"seen_0": "x", "seen_1": "3"}, {"seen_0": "-1", "seen_1": "3"}])
def test_a_vote_that_does_not_say_what_was_seen_is_refused(client, project, labeler, seen):
    turn = chat(project, labeler)
    client.force_login(labeler)
    url = reverse("chat-judge", args=[project.slug, turn.pk])
    answer = client.post(url, {"submission_id": uuid4(), "answer": "1", **seen}, headers=HTMX)
    assert answer.status_code == 422 and "not known how much" in answer.text
    assert 'value="1" data-key="5" required checked' in answer.text


def test_the_link_is_shown_to_labelers_where_the_protocol_chats(client, project, people):
    link = f'href="{reverse("chat", args=[project.slug])}"'
    client.force_login(people["labeler"])
    assert link in client.get(reverse("label", args=[project.slug])).text
    client.force_login(people["researcher"])
    assert link not in client.get(reverse("project", args=[project.slug])).text
    quiet = make_project("quiet", labeler=people["labeler"])
    client.force_login(people["labeler"])
    assert "/chat/" not in client.get(reverse("label", args=[quiet.slug])).text
    page = client.get(reverse("chat", args=[quiet.slug]))
    assert page.status_code == 200 and "No chat here now" in page.text and "<textarea" not in page.text


def test_no_text_of_the_chat_stays_english(client, project, labeler, settings, tmp_path):
    speak_made_up(settings, tmp_path)
    ask_under(project, replace(PAIR, question="⟦…⟧"))
    client.force_login(labeler)
    url, made_up = reverse("chat", args=[project.slug]), {"accept-language": CODE}
    empty = client.get(url, headers=made_up).text
    turn = chat(project, labeler, "⟦…⟧")
    turn.sides.update(text="⟦…⟧")
    page = client.get(url, headers=made_up).text
    end(conversation_id=turn.conversation_id, labeler=labeler)
    past = client.get(reverse("chat-past", args=[project.slug, turn.conversation_id]), headers=made_up).text
    for html in (empty, page, past):
        assert f'<html lang="{CODE}">' in html
        assert english(html.replace("Talking", "")) == []
    assert all(f'data-{said}="⟦Not sent: ' in page for said in ("too-old", "trouble", "offline"))


def test_a_rated_turn_asks_each_criterion_of_each_answer(client, project, labeler):
    ask_under(project, SLIDERS)
    chat(project, labeler)
    client.force_login(labeler)
    page = client.get(reverse("chat", args=[project.slug])).text
    assert page.count("data-slider data-untouched") == 2 and 'name="rating_good_1"' in page
    assert 'name="answer"' not in page


def test_a_turn_whose_process_died_has_failed(client, project, labeler):
    turn = begin(project, labeler)
    long_ago = project.created_at.replace(year=2000)
    ChatTurn.objects.filter(pk=turn.pk).update(state="running", runner=uuid4(), lease_until=long_ago)
    client.force_login(labeler)
    page = client.get(reverse("chat", args=[project.slug])).text
    assert "interrupted" in page and "Try again" in page
    client.post(reverse("chat-again", args=[project.slug, turn.pk]))
    turn.refresh_from_db()
    assert turn.state == "ready" and turn.attempt == 2


# Upstream models


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest", "http://example.com/v1", "ftp://127.0.0.1/v1", "file:///etc/passwd",
        "http://127.0.0.1@example.com/v1", "http://user@127.0.0.1/v1", "http://127.0.0.1.example.com/v1",
        "http://127.1/v1", "http://2130706433/v1", "http://0x7f.0.0.1/", "http://127.0.0.1:99999/v1",
        "127.0.0.1", "http://127.0.0.1/v1?x=1", "http://[::1/",
        "http://127.0.0.1\\@example.com/", "http://127.0.0.1/v1#x", "http://127.0.0.1 /v1", "http:///v1", "gopher://127.0.0.1",
        "http://localhost.:80/v1", "http://[::ffff:127.0.0.1]/v1", "http://①②⑦.0.0.1/",
    ],
)  # fmt: skip
def test_addresses_beyond_those_that_the_operator_allows_are_refused(url, settings):
    settings.UPSTREAM_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
    with pytest.raises(BadUpstream):
        check_address(url)


def test_allowed_hosts_may_be_bound_to_a_port(settings):
    settings.UPSTREAM_HOSTS = ["models.internal:8443", "[::1]"]
    assert check_address("https://models.internal:8443/v1/") == "https://models.internal:8443/v1"
    assert check_address("http://[::1]:9/v1") == "http://[::1]:9/v1"
    with pytest.raises(BadUpstream, match="UPSTREAM_HOSTS"):
        check_address("https://models.internal/v1")
    settings.UPSTREAM_HOSTS = []
    with pytest.raises(BadUpstream):
        check_address("http://[::1]:9/v1")


@pytest.mark.parametrize(
    "name", ["SECRET_KEY", "DATABASE_URL", "LABELAPP_UPSTREAM_", "labelapp_upstream_x", "X LABELAPP_UPSTREAM_A"]
)
def test_only_variables_for_upstream_keys_may_be_named(name):
    with pytest.raises(BadUpstream):
        check_key_variable(name)


def test_an_admin_adds_tests_and_disables_a_model(client, project, people, upstream, monkeypatch):
    monkeypatch.setenv("LABELAPP_UPSTREAM_WOLF", "s3cret-key")
    client.force_login(people["admin"])
    said = {"name": "wolf", "base_url": upstream.url + "/", "model": "wolf-1", "key_variable": "LABELAPP_UPSTREAM_WOLF"}
    client.post(reverse("chat-add-model", args=[project.slug]), said)
    row = UpstreamModel.objects.get(name="wolf")
    assert row.base_url == upstream.url
    tested = client.post(reverse("chat-test-model", args=[project.slug, row.pk]), follow=True).text
    assert "wolf answers: “Because of reason" in tested and "s3cret-key" not in tested
    assert upstream.asked[-1][2]["Authorization"] == "Bearer s3cret-key"
    client.post(reverse("chat-switch-model", args=[project.slug, row.pk]), {"on": "0"})
    row.refresh_from_db()
    assert row.disabled_at is not None
    client.post(reverse("chat-switch-model", args=[project.slug, row.pk]), {"on": "1"})
    row.refresh_from_db()
    assert row.disabled_at is None


def test_what_cannot_be_added_is_said_and_kept(client, project, people):
    client.force_login(people["admin"])
    url = reverse("chat-add-model", args=[project.slug])
    answer = client.post(url, {"name": "wolf", "base_url": "http://10.0.0.1/v1", "model": "w"})
    assert answer.status_code == 422 and "10.0.0.1:80 is not among the hosts" in answer.text
    assert 'value="http://10.0.0.1/v1"' in answer.text
    address = project.upstream_models.first().base_url
    assert "already" in client.post(url, {"name": "lion", "base_url": address, "model": "w"}).text
    assert "human" in client.post(url, {"name": "human", "base_url": address, "model": "w"}).text


def test_a_failed_test_says_why_and_follows_no_redirect(client, project, people, upstream, settings):
    client.force_login(people["admin"])
    row = project.upstream_models.get(name="lion")
    url = reverse("chat-test-model", args=[project.slug, row.pk])
    upstream.trouble["lion"] = "redirect"
    assert "not followed" in client.post(url, follow=True).text
    upstream.trouble["lion"] = "fail"
    assert "HTTP 500" in client.post(url, follow=True).text
    row.key_variable = "LABELAPP_UPSTREAM_UNSET"
    row.save()
    assert "LABELAPP_UPSTREAM_UNSET is not set" in client.post(url, follow=True).text
    settings.UPSTREAM_HOSTS = []
    assert "UPSTREAM_HOSTS" in client.post(url, follow=True).text
    assert "redirected" not in [model for model, *_ in upstream.asked]


def test_the_names_of_the_projects_own_models_are_masked(project, labeler, upstream):
    add_model(project, upstream, "Great Bear")
    upstream.chunks["Great Bear"] = ("I am the great", "bear, and not a ", "LION. ")
    project.upstream_models.exclude(name="Great Bear").delete()
    turn = chat(project, labeler)
    assert turn.state == "failed"  # the only model says the same twice
    assert {side.text for side in turn.sides.all()} == {"I am the [model], and not a LION. "}
    end(conversation_id=Conversation.objects.get().pk, labeler=labeler)


def test_whoever_has_not_accepted_the_consent_text_is_led_to_it_and_the_judgment_cites_it(client, project, labeler):
    turn = chat(project, labeler)
    project.consent_version = ConsentVersion.objects.create(project=project, number=1, text="All is published.")
    project.save()
    client.force_login(labeler)
    fields = {f"seen_{side.place}": len(side.text) for side in turn.sides.all()}
    said = {"submission_id": uuid4(), "answer": "1", **fields}
    url = reverse("chat-judge", args=[project.slug, turn.pk])
    assert client.get(reverse("chat", args=[project.slug])).url == reverse("label_consent", args=[project.slug])
    assert client.post(url, said, headers=HTMX).status_code == 403 and not Judgment.objects.exists()
    accept_consent(membership=project.memberships.get(user=labeler), version=project.consent_version)
    client.post(url, said)
    assert Judgment.objects.get().consent == Consent.objects.get()
