import pytest

from labelapp.labeling.render import render_markdown

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src='https://evil.example'></iframe>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "[click](vbscript:x)",
    '[click](https://a.example "x" onmouseover="alert(1)")',
    '[click](https://a.example/"onmouseover="alert(1))',
    "<a href='https://a.example' onclick='x()'>a</a>",
    "![x](https://track.example/pixel.png)",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    '![a"><img src=x onerror=alert(1)>](x)',
    "```<script>\nalert(1)\n```",
    '```html"><script>alert(1)</script>\n<b onload=x>\n```',
    "`<script>alert(1)</script>`",
    "    <script>alert(1)</script>",
    "<style>body{display:none}</style>",
    "<form action=https://evil.example><input name=password></form>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<base href=https://evil.example>",
    "<meta http-equiv=refresh content=0;url=https://evil.example>",
    "| <script>x</script> |\n|---|\n| <img src=x onerror=y> |",
    "<http://a.example/<script>>",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_no_model_output_becomes_active_or_loads_anything(text, html_of):
    for tag, attributes in html_of(render_markdown(text)):
        assert tag in {"p", "a", "em", "code", "pre", "span", "table", "thead", "tbody", "tr", "th", "td"}
        assert set(attributes) <= {"href", "rel", "target", "class"}
        assert attributes.get("href", "https:").split(":")[0] in {"https", "http", "mailto"}


@pytest.fixture
def html_of():
    """Tags with their attributes, as a browser's parser would see them."""
    from html.parser import HTMLParser

    def parse(html):
        found = []
        parser = HTMLParser()
        parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
        parser.feed(html)
        return found

    return parse


def test_markdown_is_rendered():
    html = render_markdown("# Title\n\n**bold** and `code`\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    for part in ["<h3>Title</h3>", "<strong>bold</strong>", "<code>code</code>", "<li>one</li>", "<td>2</td>"]:
        assert part in html


def test_a_link_tells_its_target_nothing_and_gives_it_no_rank():
    html = render_markdown("[a](https://a.example)")
    assert 'rel="noopener noreferrer nofollow"' in html
    assert 'target="_blank"' in html


def test_an_image_is_named_and_not_loaded():
    html = render_markdown("![a cat](https://track.example/cat.png)")
    assert "<img" not in html
    assert "image: a cat (https://track.example/cat.png)" in html


def test_html_in_an_answer_is_shown_as_it_was_written():
    assert "&lt;br/&gt;" in render_markdown("one <br/> two")


@pytest.mark.parametrize("markdown", ["{}", "`{}`", "```\n{}\n```", "    {}"])
def test_characters_that_reorder_text_are_shown_by_name(markdown):
    html = render_markdown(markdown.format("pay \u202eevil"))
    assert "\u202e" not in html
    assert '<span class="unseen">U+202E right-to-left override</span>' in html


def test_joiners_of_emoji_and_of_many_scripts_are_left_alone():
    assert "👩\u200d🔬" in render_markdown("👩\u200d🔬")


def test_fenced_code_gets_classes_and_no_styles():
    html = render_markdown("```python\nreturn 'x'\n```")
    assert '<span class="k">return</span>' in html
    assert "style=" not in html


def test_an_unknown_language_is_plain_code():
    assert "return" in render_markdown("```nosuchlanguage\nreturn\n```")
