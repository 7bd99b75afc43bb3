"""What a model calls itself and its maker, taken out before anyone reads it. Pure.

`Masker.masked` works on a whole text. `Masker.settled` says how much of an unfinished text nothing that follows can
change: whoever shows a growing text only up to there never shows part of a name.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

from labelapp.chat import names

MODEL, MAKER = "[model]", "[maker]"
UNSEEN = "\u00ad\u200b-\u200d\u2060\ufeff"  # may stand inside of a name and is not read
GAP = rf"[\s{UNSEEN}\-‐‑–_.·*]"
LONGEST_GAP = 3
WORD = "A-Za-z\u00c0-\u024f\uff21-\uff3a\uff41-\uff5a"
LETTERS = f"{WORD}0-9\uff10-\uff19"
CYRILLIC_ENDING = "[а-яё]{0,3}"
AFTERMATH = 48  # characters after a name, without gaps, that its version and what decides about it may take
SENTENCE = re.compile(r"[.!?]+(?=[\s\"'”’)*]|$)|[。！？\n]")
CONTEXT = 200  # characters of the sentence before a name
GAPS = re.compile(GAP)


@dataclass(frozen=True)
class Name:
    text: str
    mask: str
    sure: bool


@dataclass(frozen=True)
class Masker:
    """The names to take out."""

    names: tuple[Name, ...]

    @cached_property
    def pattern(self) -> re.Pattern:
        """Every name with what may follow it; the longest first. Group `n<number>` says which."""
        ordered = sorted(enumerate(self.names), key=lambda pair: -len(squash(pair[1].text)))
        return re.compile("|".join(f"(?P<n{number}>{_spelled(name)})" for number, name in ordered), re.IGNORECASE)

    @cached_property
    def beginnings(self) -> frozenset[str]:
        """Every beginning of every name, squashed."""
        whole = [squash(name.text) for name in self.names]
        return frozenset(text[:end] for text in whole for end in range(len(text) + 1))

    @cached_property
    def longest(self) -> int:
        return max((len(squash(name.text)) for name in self.names), default=0)

    @cached_property
    def squashed(self) -> frozenset[str]:
        return frozenset(squash(name.text) for name in self.names)

    def masked(self, text: str, start: int = 0, end: int | None = None) -> str:
        """The text from `start` to `end` with [model] and [maker] in the place of names.

        What stands around is read too. Cut only where `settled` did: not inside of a name.
        """
        end = len(text) if end is None else end
        parts, place = [], start
        for found in self.pattern.finditer(text, start):
            if found.start() >= end:
                break
            parts += [text[place : found.start()], self._instead(found)]
            place = found.end()
        return "".join([*parts, text[place:end]])

    def settled(self, text: str, since: int = 0) -> int:
        """How many characters of an unfinished text are decided: no name that begins in them can still grow.

        since: what was decided before; nothing in front of it is looked at again.
        """
        start = max(since, len(text) - (self.longest + AFTERMATH) * (1 + LONGEST_GAP))
        place = next((i for i in range(start, len(text)) if self._may_grow(text, i)), len(text))
        for found in self.pattern.finditer(text, since):
            if found.start() >= place:
                break
            if place < found.end():
                return found.start()
        return place

    def _may_grow(self, text: str, place: int) -> bool:
        if place and _is_letter(text[place - 1]) and _is_letter(text[place]):
            return False  # the middle of a word
        rest = squash(text[place:])
        if rest in self.beginnings:
            return True
        return any(
            rest[:end] in self.squashed and len(rest) - end <= AFTERMATH
            for end in range(1, min(self.longest, len(rest)) + 1)
        )

    def _instead(self, found: re.Match) -> str:
        name = self.names[int(found.lastgroup[1:])]
        return name.mask if name.sure or _speaks_of_itself(found, name) else found[0]


@lru_cache(maxsize=64)
def masker(own: tuple[str, ...] = ()) -> Masker:
    """The known names, and the project's own, which are models'."""
    rows = [Name(text, MODEL, True) for text in own if len(squash(text)) >= 2]
    kinds = [
        (names.SURE_MODELS, MODEL, True), (names.SURE_MAKERS, MAKER, True),
        (names.UNSURE_MODELS, MODEL, False), (names.UNSURE_MAKERS, MAKER, False),
    ]  # fmt: skip
    known = {squash(row.text) for row in rows}
    for texts, mask, sure in kinds:
        for text in texts:
            if squash(text) not in known:
                known.add(squash(text))
                rows.append(Name(text, mask, sure))
    return Masker(tuple(rows))


def squash(text: str) -> str:
    """The text as names are compared: one case, one width, without gaps."""
    return GAPS.sub("", unicodedata.normalize("NFKC", text).casefold())


def own_names(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({text.strip() for text in texts if text.strip()}))


def _is_letter(character: str) -> bool:
    return re.match(f"[{LETTERS}а-яё]", character, re.IGNORECASE) is not None


def _spelled(name: Name) -> str:
    """A pattern for the name in any case and width, with gaps between words or between all letters."""
    letters = [c for c in unicodedata.normalize("NFKC", name.text) if not GAPS.fullmatch(c)]
    breaks = _breaks(name.text)
    inside = f"[{UNSEEN}]{{0,2}}"
    tight = "".join(
        (f"{GAP}{{0,{LONGEST_GAP}}}" if place in breaks else inside if place else "") + _letter(letter)
        for place, letter in enumerate(letters)
    )
    apart = f"{GAP}{{1,{LONGEST_GAP}}}".join(map(_letter, letters))
    latin = _is_letter(letters[0])
    model = name.mask == MODEL
    digits = "" if model else "0-9"  # a version may follow at once: Qwen2
    before, after = (f"(?<![{LETTERS}а-яё])", f"(?![{WORD}{digits}а-яё])") if latin else ("", "")
    ending = CYRILLIC_ENDING if re.match("[а-яё]", letters[-1], re.IGNORECASE) else ""
    spelled = f"(?:{tight}|{apart})" if len(letters) > 3 else tight
    return f"{before}{spelled}{ending}{after}{_suffix() if model else ''}"


def _breaks(text: str) -> set[int]:
    """Between which letters a gap may stand: where the name has one, or a capital or a digit follows (OpenAI)."""
    breaks, count, previous = set(), 0, ""
    for letter in text:
        if GAPS.fullmatch(letter):
            breaks.add(count)
            continue
        if previous and ((letter.isupper() and not previous.isupper()) or letter.isdigit() != previous.isdigit()):
            breaks.add(count)
        previous, count = letter, count + 1
    return breaks | ({4} if text.startswith("ChatGPT") else set())


def _letter(letter: str) -> str:
    wide = chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else ""
    return f"[{re.escape(letter)}{wide}]" if wide else re.escape(letter)


def _suffix() -> str:
    """Versions and sizes: " 3.5 Sonnet", "2.5-7B-Instruct"."""
    words = "|".join(names.SUFFIXES)
    part = rf"(?:v?\d{{1,4}}(?:\.\d{{1,2}})?[a-z]?|{words})(?![{WORD}])"
    return rf"(?:[\s\-_.]{{0,2}}{part}){{0,4}}"


CUES = re.compile(
    f"(?:{'|'.join([*names.SPEAKER, *names.MADE_BY])}).{{0,60}}$|(?:{'|'.join(names.NEAR_SPEAKER)}).{{0,16}}$",
    re.IGNORECASE,
)
MADE, SIGNED = re.compile(names.MADE, re.IGNORECASE), re.compile(names.SIGNED, re.IGNORECASE)
NOT_READ = re.compile(f"[{UNSEEN}]")


def _speaks_of_itself(found: re.Match, name: Name) -> bool:
    """Whether the name's sentence says who speaks or who made it; or a model's name signs the text."""
    before = found.string[max(0, found.start() - CONTEXT) : found.start()]
    sentence = SENTENCE.split(NOT_READ.sub("", unicodedata.normalize("NFKC", before)))[-1]
    if CUES.search(sentence) or MADE.match(found.string, found.end()):
        return True
    first = name.mask == MODEL and not sentence.strip(" *_#>")
    return first and bool(SIGNED.match(found.string, found.end()))
