"""Model output as safe HTML: markdown without HTML, then an allow-list. Both sides of a pair go the same way."""

import re
import unicodedata

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

INLINE = {"a", "br", "code", "del", "em", "s", "span", "strong"}
BLOCKS = {"blockquote", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul"}
TABLES = {"table", "tbody", "td", "th", "thead", "tr"}
ATTRIBUTES = {"a": {"href"}, "code": {"class"}, "span": {"class"}, "ol": {"start"}}
# Direction overrides, invisible spaces and tag characters hide or reorder what is read. The joiners of emoji and of
# many scripts (U+200C, U+200D) stay.
UNSEEN = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]")


def render_markdown(text: str) -> str:
    """HTML without scripts, styles, forms, images or anything from elsewhere; unseen characters become badges."""
    return nh3.clean(
        _markdown.render(text),
        tags=INLINE | BLOCKS | TABLES,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


def show_unseen(escaped: str) -> str:
    """Put a badge for each unseen character into text that is escaped already."""
    return UNSEEN.sub(lambda found: f'<span class="unseen">{_name(found[0])}</span>', escaped)


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'unnamed').lower()}"


def _highlighted(code: str, language: str, _attributes: str) -> str:
    """A fenced block with Pygments' classes; the language is the author's claim, never a guess."""
    try:
        lexer = get_lexer_by_name(language or "text")
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    return show_unseen(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def _text(tokens, index, _options, _environment) -> str:
    return show_unseen(escapeHtml(tokens[index].content))


def _code(tokens, index, _options, _environment) -> str:
    return f"<code>{_text(tokens, index, None, None)}</code>"


def _code_block(tokens, index, _options, _environment) -> str:
    return f"<pre>{_code(tokens, index, None, None)}</pre>\n"


def _image(tokens, index, _options, _environment) -> str:
    """An image is named, not loaded: loading it would tell its server who judges what and when."""
    token = tokens[index]
    named = escapeHtml(f"image: {token.content} ({token.attrGet('src')})")
    return f"<em>{show_unseen(named)}</em>"


def _heading(tokens, index, _options, _environment) -> str:
    """Two levels down, under the page's own headings."""
    token = tokens[index]
    level = min(6, int(token.tag[1]) + 2)
    return f"<h{level}>" if token.nesting == 1 else f"</h{level}>\n"


def _renderer() -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True, "highlight": _highlighted})
    markdown.enable(["table", "strikethrough"])
    markdown.renderer.rules |= {
        "text": _text,
        "code_inline": _code,
        "code_block": _code_block,
        "image": _image,
        "heading_open": _heading,
        "heading_close": _heading,
    }
    return markdown


_markdown = _renderer()
