"""A labeler answers one item under every preset with a thumb, in a real browser; keys are in test_forms_browser.py."""

import pytest
from playwright.sync_api import expect

from labelapp.labeling.queue import create_comparison
from labelapp.labeling.setup.presets import PRESETS
from labelapp.models import Judgment, ProtocolVersion
from tests.browsers import sign_in
from tests.factories import make_completion, make_project, make_prompt, make_user

pytestmark = pytest.mark.django_db(transaction=True)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
TEXTS = ["Trees cool streets.", "Because.", "They clean the air.", "No idea."]


@pytest.fixture
def sheet(live_server, new_context):
    """The labeling page of a project under a preset, signed in as its labeler."""

    def open_sheet(preset):
        labeler = make_user("lena")
        project = make_project("preset", labeler=labeler)
        definition = preset.protocol.as_json()
        ProtocolVersion.objects.create(project=project, number=2, definition=definition)
        prompt = make_prompt(project, "Argue for trees.")
        size = {"pair": 2, "ranking": 4, "rating": 2, "demonstration": 0}[preset.protocol.form]
        completions = [make_completion(prompt, text) for text in TEXTS[:size]]
        create_comparison(project=project, prompt=prompt, completions=completions, origin="random")
        context = new_context(**PHONE)
        sign_in(context, live_server.url, labeler)
        page = context.new_page()
        page.goto(f"{live_server.url}/p/preset/label/")
        return page

    return open_sheet


def fill(page, preset):
    """Answer every question: the last value of each scale, a rank by place, a reason, a text where one is wanted."""
    protocol = preset.protocol
    for criterion in protocol.criteria:
        for card in page.locator(".response").all():
            answer_criterion(card, criterion)
    if protocol.safety:
        for card in page.locator(".response").all():
            card.locator('input[name^="safety_"][value="unsafe"]').tap()
    if protocol.form == "ranking":
        for place, card in enumerate(page.locator(".response").all()):
            card.locator(f'input[name="rank_{place}"][value="{place + 1}"]').tap()
    if protocol.form == "pair":
        page.locator('#answer input[name="answer"]').first.tap()
    if protocol.form == "demonstration":
        page.locator("textarea[name=rewrite]").fill("Trees cool streets and clean the air.")
    if protocol.rationale == "required":
        if not page.locator("#rationale").is_visible():
            page.locator("#why summary").tap()
        page.locator("#rationale").fill("It gives two reasons that anybody can check, and the other gives none at all.")


def answer_criterion(card, criterion):
    field = card.locator(f'input[name^="rating_{criterion.key}_"]')
    if criterion.kind == "slider":
        field.fill("73")
    elif criterion.kind == "likert":
        field.last.tap()
    else:
        field.first.tap()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_one_item_is_answered_under_each_preset(sheet, preset):
    page = sheet(preset)
    fill(page, preset)
    page.locator(".submit").tap()
    expect(page.locator(".saved")).to_contain_text("Saved #")
    check(Judgment.objects.get(), preset.protocol)


def check(judgment, protocol):
    """What was stored is what was chosen, by position."""
    size, order = len(judgment.display_order), judgment.display_order
    for criterion in protocol.criteria:
        value = {"slider": 73, "likert": criterion.high, "flag": 1}[criterion.kind]
        assert judgment.ratings[criterion.key] == [value] * size
    assert judgment.safety == (["unsafe"] * size if protocol.safety else [])
    if protocol.form == "ranking":
        assert judgment.ranking == [[position] for position in order]
    if protocol.form == "pair":  # the leftmost step favours what was shown on the left
        assert (judgment.ranking[0], abs(judgment.strength)) == ([order[0]], protocol.max_strength)
    assert bool(judgment.rewrite) == (protocol.form == "demonstration")
    assert bool(judgment.rationale) == (protocol.rationale == "required")
