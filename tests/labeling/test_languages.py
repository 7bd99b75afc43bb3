"""Every text of the labeling page is marked for translation: in a made-up language none of it stays English."""

import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.conf import settings as configured

from tests.factories import make_comparison
from tests.labeling.test_page import PAGE, form_of

# Esperanto stands in: Django knows its name, and nobody has translated Labelapp into it.
CODE = "eo"
MARKED = re.compile(
    r'{%\s*translate "((?:[^"\\]|\\.)*)"|\b_\("((?:[^"\\]|\\.)*)"\)|gettext\("((?:[^"\\]|\\.)*)"'
    r"|{%\s*blocktranslate[^%]*%}(.*?){%\s*endblocktranslate", re.DOTALL,
)  # fmt: skip
# What comes from the project, not from us.
GIVEN = re.compile(r"lena|labeler|Convincing|Labelapp|Which answer is better\?|([AB] )?(slightly |far )?better|equal")


@pytest.fixture
def made_up(settings, tmp_path):
    """A language in which every marked text stands in brackets."""
    folder = tmp_path / CODE / "LC_MESSAGES"
    folder.mkdir(parents=True)
    texts = {text: f"⟦{text}⟧" for text in marked_texts()}
    (folder / "django.mo").write_bytes(as_mo({"": "Content-Type: text/plain; charset=UTF-8\n", **texts}))
    settings.LOCALE_PATHS = [tmp_path]
    settings.LANGUAGES = [("en", "English"), (CODE, "Esperanto")]


def marked_texts() -> set[str]:
    found = set()
    base = Path(configured.BASE_DIR)
    for path in [*base.joinpath("templates").rglob("*.html"), *base.joinpath("labelapp").rglob("*.py")]:
        for groups in MARKED.findall(path.read_text()):
            text = next(filter(None, groups), "")
            found.add(re.sub(r"{{\s*(\w+)\s*}}", r"%(\1)s", text) if groups[3] else text)
    return found - {""}


def as_mo(texts: dict[str, str]) -> bytes:
    """A catalogue as GNU gettext compiles it: a header, two tables of (length, offset), and the texts."""
    pairs = sorted((original.encode(), translated.encode()) for original, translated in texts.items())
    count, start = len(pairs), 28
    body, tables = b"", [[], []]
    for column in (0, 1):
        for pair in pairs:
            tables[column] += [len(pair[column]), start + 16 * count + len(body)]
            body += pair[column] + b"\0"
    header = struct.pack("<7I", 0x950412DE, 0, count, start, start + 8 * count, 0, 0)
    return header + struct.pack(f"<{4 * count}I", *tables[0], *tables[1]) + body


def english(html: str) -> list[str]:
    """Texts with words that do not stand in brackets; not those in keys, code, and what people and models wrote."""
    found, inside = [], []
    parser = HTMLParser(convert_charrefs=True)

    def start(tag, attributes):
        attributes = dict(attributes)
        if tag not in ("input", "link", "meta", "br", "hr", "img"):
            given = attributes.get("dir") == "auto" or "guideline-text" in attributes.get("class", "")
            inside.append(tag if not given else "given")
        for name in ("aria-label", "title", "placeholder"):
            say(attributes.get(name, ""))

    def say(text):
        if re.search(r"[^\W\d_]{2}", GIVEN.sub("", text)):
            found.append(text.strip())

    def data(text):
        if not {"given", "kbd", "script", "style", "pre"} & set(inside):
            say(text)

    parser.handle_starttag, parser.handle_data = start, data
    parser.handle_endtag = lambda tag: inside and inside.pop()
    parser.feed(re.sub(r"⟦.*?⟧", "", html, flags=re.DOTALL))
    return found


def test_no_text_of_the_labeling_page_stays_english(client, labeler, project, made_up):
    client.force_login(labeler)
    empty = client.get(PAGE, headers={"accept-language": CODE}).content.decode()
    make_comparison(project)
    page = client.get(PAGE, headers={"accept-language": CODE}).content.decode()
    for html in (empty, page):
        assert f'<html lang="{CODE}">' in html
        assert english(html) == []


def test_a_refusal_is_said_in_the_readers_language(client, labeler, project, made_up):
    client.force_login(labeler)
    make_comparison(project)
    form = form_of(client.get(PAGE))
    response = client.post(PAGE, form | {"answer": "9"}, headers={"accept-language": CODE})
    assert "⟦Strength 9 is out of range; choose between -3 and 3.⟧" in response.content.decode()


@pytest.mark.parametrize("language", ["de", "xx", "", "eo"])
def test_a_language_that_we_do_not_have_is_english(client, labeler, project, language):
    client.force_login(labeler)
    response = client.get(PAGE, headers={"accept-language": language})
    assert '<html lang="en">' in response.content.decode()
