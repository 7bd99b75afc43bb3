"""What htmx swaps in is filled into a text that was rendered once: it must be what the template would give."""

import re
from uuid import uuid4

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from labelapp.labeling.desk import Desk, make_item
from labelapp.labeling.protocol import parse
from labelapp.labeling.section import HOLE, TEMPLATE, section_of
from labelapp.models import Project, Skip, Slot

NASTY = "</pre><script>alert(1)</script> \"&amp;' \n\r *x* \u202e {{ csrf_token }} {% now %}"
PROTOCOLS = {
    "plain": {},
    "all asked": {
        "criteria": [
            {"key": "true", "label": "<True>"}, {"key": "bad", "label": "Bad", "kind": "flag"},
            {"key": "much", "label": "Much", "kind": "slider"},
        ],
        "criteria_first": True, "safety": True, "span_reasons": ["<wrong>"], "rationale": "required",
        "rationale_words": 3, "chips": ["a & b"], "rewrite": "optional",
    },
    "ranking": {"form": "ranking", "unrankable": True},
    "rating": {"form": "rating", "criteria": [{"key": "good", "label": "Good"}], "both_bad": False},
}  # fmt: skip
LAST = {"id": 77, "withdrawn": False, "surplus": False, "corrected": False}
GUIDELINE = {"id": 3, "number": 4, "text": "", "html": "<p>Judge &amp; <em>think</em></p>"}


def context_of(protocol=None, texts=("One.", NASTY), turns=1, purpose="", judged=12_345, **changed):
    messages = [{"role": ("user", "assistant")[n % 2], "content": f"{NASTY} {n}"} for n in range(turns)]
    item = make_item(
        slot=Slot(pk=99_001, purpose=purpose, note=changed.pop("note", "")), protocol=parse(protocol or {}),
        protocol_id=55, messages=messages, texts=list(texts), draft=None,
    )  # fmt: skip
    about = {"usual": 40, "last": LAST, "guideline": GUIDELINE}
    about |= {name: changed.pop(name) for name in list(changed) if name in about}
    desk = Desk(judged, 7, about["usual"], about["last"], about["guideline"], item, None)
    context = {
        "desk": desk, "item": item, "announce": "Saved #77.", "refusal": None, "outcome": None, "kept": None,
        "section": "label", "skip_reasons": Skip.Reason.choices, "csrf_token": "a" * 64, "cap": None, "news": None,
        "hidden": {"claim": "abc:def", "slot": 99_001, "submission_id": uuid4(), "active_seconds": ""},
    }  # fmt: skip
    return context | changed


def project():
    return Project(slug="convincing", minimum_seconds=2.5)


def rendered(context):
    return render_to_string(TEMPLATE, context | {"project": project()})


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_form_is_what_the_template_gives(name, size):
    if size not in parse(PROTOCOLS[name]).sizes:
        pytest.skip("a comparison never has so many responses under this protocol")
    context = context_of(PROTOCOLS[name], texts=[f"{NASTY} {n}" for n in range(size)])
    assert section_of(context, project()) == rendered(context)


@pytest.mark.parametrize(
    "changed",
    [
        {"usual": None}, {"cap": 0}, {"cap": 1200}, {"judged": 0}, {"announce": ""}, {"announce": NASTY}, {"turns": 3},
        {"last": None}, {"last": LAST | {"surplus": True}}, {"last": LAST | {"withdrawn": True}},
        {"last": LAST | {"corrected": True}}, {"guideline": None}, {"purpose": "quiz"}, {"purpose": "reask"},
        {"purpose": "gold"}, {"texts": ["x", "\r\n\nx "]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "de"])
def test_every_kind_of_page_is_what_the_template_gives(changed, language):
    for _ in range(2):  # from the template, then from what was kept of it
        context = context_of(**changed)
        with translation.override(language):
            assert section_of(context, project()) == rendered(context)


def test_nothing_of_another_item_stays_in_the_text():
    section_of(context_of(texts=("secret one", "secret two"), announce="secret"), project())
    section = section_of(context_of(texts=("my own", "my own too")), project())
    assert "secret" not in section and HOLE not in section
    assert len(re.findall("my own", section)) == 4  # rendered and raw


@pytest.mark.parametrize(
    "changed",
    [{"kept": {"answer": "1"}}, {"refusal": "no"}, {"outcome": "Right."}, {"note": "look again"},
     {"news": {"seen": 1, "number": 2, "diff": []}}, {"item": None}],
)  # fmt: skip
def test_what_is_out_of_the_usual_is_left_to_the_template(changed):
    assert section_of(context_of(**changed), project()) is None
