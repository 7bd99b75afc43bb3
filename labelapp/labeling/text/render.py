"""Model output as safe HTML: markdown without HTML, then an allow-list. Both sides of a pair go the same way.

What would cost too much, or would be shown in part only, is shown as it was written: LONGEST, DEEPEST, LONGEST_CODE.
"""

import nh3
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from labelapp.labeling.text import mathematics
from labelapp.labeling.text.plain import is_plain, plain_html
from labelapp.labeling.text.unseen import show_unseen

LONGEST = 40_000  # characters; more is shown raw: the worst there is takes about 35 microseconds for each
DEEPEST = 20  # blocks within blocks; the parser leaves out what is deeper, so all of such a text is shown raw
LONGEST_CODE = 20_000  # characters of a block that gets colours
LANGUAGES = {
    "bash", "c", "c#", "c++", "cpp", "csharp", "css", "diff", "dockerfile", "elixir", "go", "haskell", "html", "ini",
    "java", "javascript", "js", "json", "julia", "kotlin", "latex", "lua", "makefile", "matlab", "ocaml", "perl", "php",
    "powershell", "py", "python", "r", "ruby", "rust", "scala", "sh", "shell", "sql", "swift", "tex", "toml", "ts",
    "typescript", "xml", "yaml",
}  # fmt: skip
INLINE = {"a", "br", "code", "del", "em", "s", "span", "strong"}
BLOCKS = {"blockquote", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul"}
TABLES = {"table", "tbody", "td", "th", "thead", "tr"}
ATTRIBUTES = {"a": {"href"}, "code": {"class"}, "span": {"class"}, "ol": {"start"}, "p": {"class", "tabindex"}}
ATTRIBUTES |= mathematics.ATTRIBUTES
SCROLLS = {"tabindex": "0"}  # what may be wider than its card can be reached, and scrolled, with keys


def render_markdown(text: str) -> str:
    """HTML without scripts, styles, forms, images or anything from elsewhere; unseen characters become badges."""
    if len(text) <= LONGEST and is_plain(text):
        return plain_html(text)
    return render_with_markup(text)


def render_with_markup(text: str) -> str:
    return nh3.clean(
        _as_html(text),
        tags=INLINE | BLOCKS | TABLES | mathematics.TAGS,
        attributes=ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}, "pre": SCROLLS, "table": SCROLLS},
    )


def _as_html(text: str) -> str:
    """Not safe yet. Raw where the text is too long or too deep."""
    if len(text) <= LONGEST:
        environment: dict = {}
        tokens = _markdown.parse(text, environment)
        if all(token.level < DEEPEST - 1 for token in tokens):
            return _markdown.renderer.render(tokens, _markdown.options, environment)
    return f"<pre><code>{show_unseen(escapeHtml(text))}</code></pre>"


def _highlighted(code: str, language: str, _attributes: str) -> str:
    """A fenced block with Pygments' classes; the language is the author's claim, never a guess."""
    known = language.lower() in LANGUAGES and len(code) <= LONGEST_CODE
    lexer = get_lexer_by_name(language.lower() if known else "text", stripnl=False)
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
    markdown.options["maxNesting"] = DEEPEST
    markdown.enable(["table", "strikethrough"])
    mathematics.add_mathematics(markdown)
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
