"""Text without any markdown in it, which most answers are: the same HTML as by the long way, at a fraction of it."""

import re

from markdown_it.common.utils import escapeHtml

from labelapp.labeling.text.unseen import UNSEEN

# What markdown, mathematics or the parser's clean-up could take for more than itself: signs anywhere, white space that
# is neither a space nor a line's end, signs and numbers that begin a line, spaces around a line, lines around all.
MORE_THAN_TEXT = re.compile(
    r"[\\`*_\[\]<&~$|]|[^\S \n]|[\x00-\x08\x0e-\x1f\x7f\ufffd]|^[ #>+=:-]|^\d+[.)]| $|\A\n|\n\Z",
    re.MULTILINE,
)


def is_plain(text: str) -> bool:
    return bool(text) and not MORE_THAN_TEXT.search(text) and not UNSEEN.search(text)


def plain_html(text: str) -> str:
    """Paragraphs and line ends, as safe HTML."""
    escaped = escapeHtml(text).replace("&quot;", '"')
    paragraphs = (part.replace("\n", "<br>\n") for part in re.split(r"\n{2,}", escaped))
    return "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs)
