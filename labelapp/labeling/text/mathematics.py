r"""LaTeX between $ $, $$ $$, \( \) or \[ \], as MathML: without scripts, styles or links, and without anything remote.

Whatever cannot be converted is shown as it was written. Prices stay text: see DOLLARS.
"""

import re
from functools import lru_cache
from html import unescape
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import Converter
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml

from labelapp.labeling.text.unseen import UNSEEN, show_unseen

LONGEST = 2000  # characters of one formula
LONGEST_TOGETHER = 10_000  # and of all formulas in a text: the converter takes about 15 microseconds for each
MOST_LINES = 60
DEEPEST = 40  # braces within braces
WIDEST = 4  # em of an empty space

# What both sides may look like: structure and letters. No colours, sizes or phantoms, which could hide what is said.
TAGS = {
    "math", "menclose", "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mpadded", "mprescripts", "mroot",
    "mrow", "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder",
    "munderover",
}  # fmt: skip
ATTRIBUTES = {
    "math": {"display"},
    "menclose": {"notation"},
    "mfrac": {"linethickness"},
    "mi": {"mathvariant"},
    "mn": {"mathvariant"},
    "mo": {"fence", "form", "lspace", "movablelimits", "rspace", "separator", "stretchy"},
    "mover": {"accent"},
    "mspace": {"width"},
    "mstyle": {"displaystyle", "scriptlevel"},
    "mtable": {"displaystyle"},
    "mtd": {"columnalign"},
    "munder": {"accentunder"},
    "munderover": {"accent", "accentunder"},
}
VALUE = re.compile(r"[a-z0-9.+-]{1,20}")

# No white space inside the dollars and no letter or digit outside of them: "$5 and $10" and "US$5" are prices.
DOLLARS = re.compile(r"(?<![\w$\\])\$(?![\s$])((?:[^$\\]|\\.)++)(?<!\s)\$(?![\w$])", re.DOTALL)
PRICE = re.compile(r"\d[\d.,]*\s+\(?[^\W\d_]{2}")
INLINE = (
    (re.compile(r"\$\$((?:[^$\\]|\\.)++)\$\$", re.DOTALL), "block"),
    (DOLLARS, "inline"),
    (re.compile(r"\\\(((?:[^\\]|\\[^()])++)\\\)"), "inline"),
    (re.compile(r"\\\[((?:[^\\]|\\[^\[\]])++)\\\]"), "block"),
)
ENVIRONMENT = "align|aligned|equation|gather|gathered|multline|split|flalign|eqnarray"
OPENING = re.compile(rf"\$\$|\\\[|\\begin\{{({ENVIRONMENT})(\*?)\}}")
# The converter knows one of these; its numbering of equations would be an invention of ours.
ALIGNED = re.compile(rf"(\\(?:begin|end))\s*\{{(?:{ENVIRONMENT})\*?\}}")
# Macros could grow without end; a file, a link or a style is nobody's business here.
REFUSED = re.compile(
    r"\\(?:re|provide)?newcommand|\\[egx]?def(?![a-z])|\\let(?![a-z])|\\(?:href|url|style|class|require|include)"
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def add_mathematics(markdown: MarkdownIt) -> None:
    """Teach a parser formulas, in lines and in blocks."""
    alternatives = ["paragraph", "reference", "blockquote", "list"]
    markdown.inline.ruler.before("escape", "mathematics", _inline)
    markdown.block.ruler.before("fence", "mathematics", _block, {"alt": alternatives})
    markdown.renderer.rules |= {"formula": _formula, "formula_block": _formula_block}


def _inline(state, silent: bool) -> bool:
    found, display = _formula_at(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        token = state.push("formula", "math", 0)
        token.content, token.info, token.markup = found[1], display, found[0]
    state.pos = found.end()
    return True


def _formula_at(text: str, position: int) -> tuple[re.Match | None, str]:
    for pattern, display in INLINE if text[position] in "$\\" else ():
        found = pattern.match(text, position)
        if found and len(found[1]) <= LONGEST and not (pattern is DOLLARS and PRICE.match(found[1])):
            return found, display
    return None, ""


def _block(state, start: int, end: int, silent: bool) -> bool:
    r"""A formula that has its lines to itself, from $$, \[ or \begin{...} to its end; never over an empty line."""
    if state.is_code_block(start):
        return False
    opening = OPENING.match(state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]])
    if not opening:
        return False
    closing = {"$$": "$$", r"\[": r"\]"}.get(opening[0]) or opening[0].replace("begin", "end", 1)
    last = _closing_line(state, start, min(end, start + MOST_LINES), opening[0], closing)
    if last is None:
        return False
    source = state.getLines(start, last + 1, state.blkIndent, False).strip()
    inside = source[len(opening[0]) : -len(closing)]
    if not inside.strip() or closing in inside or len(source) > LONGEST:
        return False
    if not silent:
        state.line = last + 1
        token = state.push("formula_block", "math", 0)
        token.block, token.map, token.markup = True, [start, last + 1], source
        token.content = source if closing.startswith(r"\end") else inside
    return True


def _closing_line(state, start: int, end: int, opening: str, closing: str) -> int | None:
    for line in range(start, end):
        if state.isEmpty(line) or state.sCount[line] < state.blkIndent:
            return None
        text = state.src[state.bMarks[line] : state.eMarks[line]].strip()
        if text.endswith(closing) and (line > start or len(text) > len(opening + closing)):
            return line
    return None


def _formula(tokens, index, _options, environment) -> str:
    token = tokens[index]
    return _shown(token, token.info, environment) or show_unseen(escapeHtml(token.markup))


def _formula_block(tokens, index, _options, environment) -> str:
    token = tokens[index]
    shown = _shown(token, "block", environment)
    if shown:
        return f'<p class="formula" tabindex="0">{shown}</p>\n'
    return f"<pre><code>{show_unseen(escapeHtml(token.markup))}</code></pre>\n"


def _shown(token, display: str, environment: dict) -> str | None:
    """MathML, as long as the text's formulas together are not too long."""
    spent = environment["formulas"] = environment.get("formulas", 0) + len(token.content)
    return as_mathml(token.content.strip(), display) if spent <= LONGEST_TOGETHER else None


@lru_cache(maxsize=4096)
def as_mathml(latex: str, display: str = "inline") -> str | None:
    """One formula; None where it is too long, too deep or wrong, or defines macros. Safe by itself: see _keep."""
    if len(latex) > LONGEST or _depth(latex) > DEEPEST or REFUSED.search(latex):
        return None
    try:
        element = Converter(display=display).convert_to_element(ALIGNED.sub(r"\1{align*}", latex))
    except Exception:  # it fails in a dozen ways, down to StopIteration; each means: no LaTeX that it knows
        return None
    kept = _keep(element)
    kept.set("display", display)
    text = "".join(kept.itertext())
    return None if UNSEEN.search(text) or CONTROL.search(text) else tostring(kept, encoding="unicode")


def _depth(latex: str) -> int:
    depth = deepest = 0
    for character in latex:
        depth += (character == "{") - (character == "}")
        deepest = max(deepest, depth)
    return deepest


def _keep(element: Element) -> Element:
    """The element with known elements and attributes only. The converter leaves references (&#x3C;) in its texts."""
    tag = element.tag if element.tag in TAGS else "mrow"
    kept = Element(tag, {name: value for name, value in element.attrib.items() if _may(tag, name, value)})
    kept.text = unescape(element.text or "")
    kept.extend(_keep(child) for child in element)
    return kept


def _may(tag: str, name: str, value: str) -> bool:
    if name not in ATTRIBUTES.get(tag, ()) or not VALUE.fullmatch(value):
        return False
    return name != "width" or (value.endswith("em") and abs(float(value[:-2])) <= WIDEST)
