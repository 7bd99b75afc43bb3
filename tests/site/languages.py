"""A made-up language in which every text that is marked for translation stands in brackets."""

import re
import struct
from html.parser import HTMLParser
from pathlib import Path

from django.conf import settings as configured

# Esperanto stands in: Django knows its name, and nobody has translated Labelapp into it.
CODE = "eo"
MARKED = re.compile(
    r'{%\s*translate "((?:[^"\\]|\\.)*)"|\b_\("((?:[^"\\]|\\.)*)"\)|gettext(?:_noop)?\(\s*"((?:[^"\\]|\\.)*)"'
    r"|{%\s*blocktranslate[^%]*%}(.*?){%\s*endblocktranslate", re.DOTALL,
)  # fmt: skip
PLURAL = re.compile(r"{%\s*plural\s*%}")
HEADER = "Content-Type: text/plain; charset=UTF-8\nPlural-Forms: nplurals=2; plural=(n != 1);\n"
# What comes from the project, not from us; and what Django and allauth say, who bring translations of their own.
GIVEN = re.compile(
    r"lena|labeler|Convincing|Labelapp|Which answer is better\?"
    r"|Judge the( argument)?|, not the opinion|Login:|Username or email|Your password (must|can’t) [^.]*\."
)


def speak_made_up(settings, place: Path) -> None:
    """Offer the language; its catalogue is written below `place`."""
    folder = place / CODE / "LC_MESSAGES"
    folder.mkdir(parents=True)
    texts = {text: "\0".join(f"⟦{form}⟧" for form in text.split("\0")) for text in marked_texts()}
    (folder / "django.mo").write_bytes(as_mo({"": HEADER, **texts}))
    settings.LOCALE_PATHS = [place]
    settings.LANGUAGES = [("en", "English"), (CODE, "Esperanto")]


def marked_texts() -> set[str]:
    """What gettext looks up: a text, or that for one and that for several with a NUL between them."""
    found = set()
    base = Path(configured.BASE_DIR)
    for path in [*base.joinpath("templates").rglob("*.html"), *base.joinpath("labelapp").rglob("*.py")]:
        for groups in MARKED.findall(path.read_text()):
            text = next(filter(None, groups), "")
            forms = [re.sub(r"{{\s*(\w+)\s*}}", r"%(\1)s", form) for form in PLURAL.split(text)]
            found.add("\0".join(forms) if groups[3] else text)
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
    while html != (html := re.sub(r"⟦[^⟦⟧]*⟧", "", html)):
        pass  # what stands in brackets may hold a name that does too
    parser.feed(html)
    return found
