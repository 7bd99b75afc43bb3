"""The page of the gate and what the version's page shows of a decision."""

import re

import pytest
from django.test import Client

from labelapp.models import DeploymentEvent, GateOverride
from labelapp.rounds.decision import settings_of
from labelapp.rounds.gate_forms import guessed_direction
from labelapp.rounds.promote import deployment_of, promote
from tests.factories import add_member, make_project, make_user
from tests.gate.rounds import audit, kept, make_gate, make_passing, make_policy
from tests.gate.test_version_pages import text_of


@pytest.fixture
def admin(db):
    return make_user("ada")


@pytest.fixture
def project(admin):
    return make_project("arguments", admin=admin)


@pytest.fixture
def signed_in(client, admin):
    client.force_login(admin)
    return client


PATH = "/p/arguments/gate/"


def filled_in(body: str, **changes) -> dict:
    """The page's form as a browser would send it, with changes."""
    data = dict(re.findall(r'<input type="number" name="([^"]+)" value="([^"]*)"', body))
    for name, options in re.findall(r'<select name="([^"]+)".*?>(.*?)</select>', body, re.DOTALL):
        data[name] = re.search(r'value="([^"]+)" selected', options)[1]
    return data | changes


def test_only_admins_see_the_gate_and_strangers_find_nothing(client, project, admin, tmp_path):
    version = make_policy(project, tmp_path)
    override = GateOverride.objects.create(
        deployment=deployment_of(project), version=version, gate={}, reason="please", asked_by=admin
    )
    routes = [PATH, *(f"/p/arguments/overrides/{override.pk}/{what}/" for what in ("confirm", "withdraw"))]
    for status, role in ((404, None), (403, "labeler"), (403, "researcher")):
        client.force_login(user := make_user())
        if role:
            add_member(project, user, role)
        for path in routes:
            assert client.post(path).status_code == status, (path, role)
    add_member(elsewhere := make_project(), stranger := make_user(), "admin")
    client.force_login(stranger)
    assert client.post(f"/p/{elsewhere.slug}/overrides/{override.pk}/confirm/").status_code == 404
    checking = Client(enforce_csrf_checks=True)
    checking.force_login(admin)
    for path in routes:
        assert checking.post(path).status_code == 403
    assert GateOverride.objects.filter(confirmed_at=None, withdrawn_at=None).count() == 1


def test_the_page_lists_what_was_measured_and_says_what_only_warns(signed_in, project, tmp_path):
    version = make_policy(project, tmp_path)
    audit(version, tmp_path, bbq_bias_ambiguous={"value": 0.1, "low": 0, "high": 0.2, "unit": "-1 to 1"},
          bbq_accuracy_disambiguated={"value": 0.3, "low": 0.28, "high": 0.36, "unit": "share"})  # fmt: skip
    said = text_of(signed_in.get(PATH))
    assert "The built-in limits hold" in said
    only = "limit only: its values are not kept item by item"
    assert f"Win rate against the parent {only} 58.0 % [54.0, 62.0] 500, in 12" in said
    assert "BBQ: stereotype where the text does not tell warns only: the interval of" in said


def test_the_page_says_which_figures_can_be_paired(signed_in, project, tmp_path):
    audit(make_policy(project, tmp_path), tmp_path, values=kept("win_rate", [1.0, 0.0]))
    lines = signed_in.get(PATH).content.decode().split("<tr>")
    alone = {key: any(f'name="{key}-gates"' in line and "limit only" in line for line in lines)
             for key in ("win_rate", "repetition", "human_win_rate")}  # fmt: skip
    assert alone == {"win_rate": False, "repetition": True, "human_win_rate": True}


def test_saving_makes_the_next_version_and_keeps_the_one_before(signed_in, project, admin, tmp_path):
    make_passing(project, tmp_path)
    data = filled_in(signed_in.get(PATH).content.decode(), alpha="0.1", second_person="on")
    data |= {"win_rate-gates": "on", "win_rate-margin": "0.02", "win_rate-minimum": "80"}
    assert signed_in.post(PATH, data).status_code == 302
    assert signed_in.post(PATH, data | {"repetition-gates": "on", "repetition-limit": "0.05"}).status_code == 302

    settings = settings_of(project)
    assert (settings.number, settings.alpha, settings.second_person, settings.by) == (2, 0.1, True, admin)
    rules = {rule.key: (rule.direction, rule.margin, rule.limit, rule.minimum) for rule in settings.rules.all()}
    assert rules == {"win_rate": ("higher", 0.02, None, 80), "repetition": ("lower", None, 0.05, 50)}
    said = text_of(signed_in.get(PATH))
    assert "Version 2 holds" in said and "win_rate higher is better, loss up to 0.02, 80 rows" in said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"win_rate-gates": "on"}, "give an allowed loss against the champion, a limit, or both"),
        ({"win_rate-gates": "on", "win_rate-direction": "zero", "win_rate-margin": "1"}, "no allowed loss"),
        ({"alpha": "0.7"}, "between 0 and 0.5"),
        ({"win_rate-minimum": "1"}, "greater than or equal to 2"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(signed_in, project, tmp_path, change, sentence):
    make_passing(project, tmp_path)
    refused = signed_in.post(PATH, filled_in(signed_in.get(PATH).content.decode()) | change)
    assert refused.status_code == 422
    assert sentence in text_of(refused)
    assert settings_of(project) is None


def test_directions_are_guessed_for_what_is_known():
    known = {"win_rate": "higher", "counterfactual_flip_rate_templates": "lower", "bbq_bias_ambiguous": "zero"}
    assert {key: guessed_direction(key) for key in known} == known


def test_the_version_page_shows_the_arithmetic_as_a_plot_and_a_table(signed_in, project, admin, tmp_path):
    champion, version = make_policy(project, tmp_path), make_policy(project, tmp_path)
    for each, mean in ((champion, 40.0), (version, 41.0)):
        values = [mean + number % 5 for number in range(60)]
        audit(each, tmp_path, values=kept("mean_length_tokens", values))
    promote(deployment=deployment_of(project), version=champion, by=admin, reason="first", seen_epoch=0)
    make_gate(project, {"key": "mean_length_tokens", "direction": "lower", "margin": 2.0})

    response = signed_in.get(f"/p/arguments/versions/{version.name}/")
    said, body = text_of(response), response.content.decode()
    assert f"gate, against {champion.name} on the same items" in said
    assert "43 tokens – 42 tokens −1 tokens [−1, −1] 2 tokens 0.003 0.003 60 paired, in 12" in said
    assert 'class="against"' in body and body.count("<circle") == 1


def test_asking_and_confirming_by_the_pages(signed_in, client, project, admin, tmp_path):
    make_gate(project, {"key": "win_rate", "limit": 0.7}, second_person=True)
    version = make_passing(project, tmp_path)
    page = f"/p/arguments/versions/{version.name}/"
    asked = signed_in.get(f"{page}promote/")
    assert "Ask a second admin" in text_of(asked)
    assert signed_in.post(f"{page}promote/", {"seen_epoch": 0}).status_code == 409
    assert signed_in.post(f"{page}promote/", {"seen_epoch": 0, "reason": "it is funny"}).status_code == 302
    override = GateOverride.objects.get()
    assert "“it is funny”" in text_of(signed_in.get(page))
    assert "Confirm and promote" not in text_of(signed_in.get(page))
    signed_in.post(f"/p/arguments/overrides/{override.pk}/confirm/", {"seen_epoch": 0})
    assert not DeploymentEvent.objects.exists()

    add_member(project, second := make_user("bob"), "admin")
    client.force_login(second)
    assert "Confirm and promote" in text_of(client.get(page))
    assert client.post(f"/p/arguments/overrides/{override.pk}/confirm/", {"seen_epoch": 0}).status_code == 302
    assert DeploymentEvent.objects.get().by == second
    assert "asked for by ada" in text_of(client.get("/p/arguments/versions/"))


def test_a_request_can_be_withdrawn_by_the_page(signed_in, project, tmp_path):
    make_gate(project, {"key": "win_rate", "limit": 0.7}, second_person=True)
    version = make_passing(project, tmp_path)
    signed_in.post(f"/p/arguments/versions/{version.name}/promote/", {"seen_epoch": 0, "reason": "it is funny"})
    path = f"/p/arguments/overrides/{GateOverride.objects.get().pk}/withdraw/"
    assert signed_in.post(path).status_code == signed_in.post(path).status_code == 302
    assert "“it is funny”" not in text_of(signed_in.get(f"/p/arguments/versions/{version.name}/"))
