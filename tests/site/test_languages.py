"""What a labeler reads is marked for translation on every page; texts that scripts show are in the pages too."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.test import Client
from django.utils.translation.template import templatize

from labelapp.labeling.protocol import Protocol
from tests.site.filled import PROTOCOL, make_filled
from tests.site.languages import CODE, english, speak_made_up
from tests.site.pages import NOBODY, PAGES

SPOKEN = re.compile(r"""(["'`])(?=[A-Z][a-z])([^"'`]*? [^"'`]*)\1|textContent = (["'`])([A-Za-z][^"'`]*)\3""")


def bracketed(text: str) -> str:
    return f"⟦{text}⟧" if text else ""


def in_brackets(protocol: Protocol) -> Protocol:
    """The protocol with every word that a person wrote in brackets."""
    words = ("label", "help", "low_word", "high_word")
    criteria = [replace(row, **{word: bracketed(getattr(row, word)) for word in words}) for row in protocol.criteria]
    chips, reasons = (tuple(map(bracketed, said)) for said in (protocol.chips, protocol.span_reasons))
    question = bracketed(protocol.question)
    return replace(protocol, question=question, criteria=tuple(criteria), chips=chips, span_reasons=reasons)


@pytest.mark.django_db
@pytest.mark.parametrize("role", [NOBODY, "labeler"])
def test_no_page_of_a_labeler_stays_english(role, settings, tmp_path):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path, write=lambda default, longest: bracketed(default), protocol=in_brackets(PROTOCOL))
    speak_made_up(settings, tmp_path)
    client = Client(headers={"accept-language": CODE})
    if role != NOBODY:
        client.force_login(filled.people[role])
    found = {}
    for page in PAGES:
        if role in page.roles:
            html = client.get(page.address(filled), follow=True).text
            assert f'<html lang="{CODE}">' in html, page.route
            found[page.route] = english(html)
    assert {route: said for route, said in found.items() if said} == {}


def test_makemessages_can_read_every_template():
    for path in sorted(Path(configured.BASE_DIR, "templates").rglob("*.html")):
        templatize(path.read_text(), origin=str(path))  # raises SyntaxError at tags inside of blocktranslate


def test_no_script_says_a_sentence_of_its_own():
    scripts = sorted(Path(configured.BASE_DIR, "static/js").glob("*.js"))
    code = {path.name: re.sub(r"^\s*(//|/\*).*$", "", path.read_text(), flags=re.MULTILINE) for path in scripts}
    said = [f"{name}: {found[0]}" for name, text in code.items() for found in SPOKEN.finditer(text)]
    assert said == [], "Put it into the template as a data attribute, translated."
