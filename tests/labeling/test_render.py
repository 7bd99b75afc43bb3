import pytest

from labelapp.labeling.text.render import render_markdown

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
        assert set(attributes) <= {"href", "rel", "target", "class", "tabindex"}
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


# Mathematics


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("$x$ is 5", "<mi>x</mi>"),
        ("so $a_i$, then", "<msub><mi>a</mi><mi>i</mi></msub>"),
        (r"so \(a<b\) holds", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
        (r"then \[\frac12\].", "<mfrac><mn>1</mn><mn>2</mn></mfrac>"),
        ("in a line $$x^2$$ too", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("$$\nx\n+ y\n$$", "<mi>x</mi><mo>+</mo><mi>y</mi>"),
        ("- item\n  \\[\n  x\n  = y\n  \\]\n- next", "<mi>x</mi><mo>=</mo><mi>y</mi>"),
        ("> $$\n> x\n> $$", "<mi>x</mi>"),
        ("so:\n\\begin{aligned}\na &= b \\\\\nc &= d\n\\end{aligned}", "<mtr>"),
        ("| a |\n|---|\n| $x$ |", "<td><math"),
        (r"\(\begin{pmatrix}1&2\\3&4\end{pmatrix}\)", "<mtable>"),
    ],
)
def test_latex_becomes_mathml(text, inside):
    html = render_markdown(text)
    assert "<math display=" in html
    assert inside in html


@pytest.mark.parametrize(
    "text",
    ["$5 and $10", "US$5 to A$6", "$5-$10", "costs $5 (or 6$)", "$5 million or 10$", "$HOME/$USER", "$ x $"],
)
def test_prices_and_variables_of_a_shell_stay_text(text):
    assert render_markdown(text) == f"<p>{text}</p>\n"


def test_a_dollar_that_is_escaped_is_a_dollar():
    assert render_markdown(r"\$5 and \$6") == "<p>$5 and $6</p>\n"


@pytest.mark.parametrize("text", ["`$x$`", "```\n$x$\n```", "    $x$"])
def test_code_is_never_mathematics(text):
    assert "<math" not in render_markdown(text)


@pytest.mark.parametrize(
    ("latex", "written"),
    [
        ("x^", "$x^$"),
        (r"\href{javascript:alert(1)}{x}", r"$\href{javascript:alert(1)}{x}$"),
        (r"\def\a{\a\a}\a", r"$\def\a{\a\a}\a$"),
        (r"\newcommand{\b}{x}\b", r"$\newcommand{\b}{x}\b$"),
        (r"\unicode{x202e}x", r"$\unicode{x202e}x$"),
        ("{" * 60 + "x" + "}" * 60, "$" + "{" * 60 + "x" + "}" * 60 + "$"),
        ("x" * 3000, "$" + "x" * 3000 + "$"),
    ],
)
def test_what_cannot_be_shown_as_mathematics_is_shown_as_it_was_written(latex, written):
    assert render_markdown(f"a ${latex}$") == f"<p>a {written}</p>\n"


def test_a_block_that_cannot_be_shown_keeps_its_lines():
    assert '<pre tabindex="0"><code>$$\n&lt;b&gt; ^\n$$</code></pre>' in render_markdown("$$\n<b> ^\n$$")


@pytest.mark.parametrize("latex", [r"\text{<img src=x>}", r"\text{&lt;img src=x&gt;}", r"\mathrm{<}img"])
def test_text_within_a_formula_is_text(latex, html_of):
    assert {tag for tag, _ in html_of(render_markdown(f"${latex}$"))} <= {"p", "math", "mrow", "mtext", "mo", "mi"}


@pytest.mark.parametrize("latex", [r"\color{white}x", r"\colorbox{black}{x}", r"\rule{9em}{9em}", r"\hspace{99em}x"])
def test_a_formula_has_no_colour_and_no_size_of_its_own(latex):
    html = render_markdown(f"${latex}$")
    assert "<math" in html
    assert not any(name in html for name in ("color", "background", "height", "99em", "style="))


def test_equations_get_no_numbers_that_nobody_wrote():
    assert "(1)" not in render_markdown("$$\\begin{align}a&=b\\end{align}$$")


def test_formulas_that_are_too_much_together_are_shown_as_they_were_written():
    formula = "$" + "+".join("x" * 500) + "$"
    html = render_markdown("\n\n".join([formula] * 20))
    assert html.count("<math") == 10
    assert html.count(formula) == 10


# What would cost too much, or would be left out


def test_what_is_nested_too_deep_is_shown_raw_and_not_left_out():
    text = "> " * 30 + "hidden?"
    assert render_markdown(text) == f'<pre tabindex="0"><code>{"&gt; " * 30}hidden?</code></pre>'


def test_many_quotes_within_each_other_are_still_rendered():
    assert render_markdown("> " * 17 + "seen").count("<blockquote>") == 17


def test_a_very_long_text_is_shown_raw():
    assert render_markdown("*a* " * 20_000).startswith('<pre tabindex="0"><code>*a* *a* ')


def test_long_code_has_no_colours():
    assert "<span" not in render_markdown("```python\n" + "x = 1\n" * 5000 + "```")


@pytest.mark.parametrize("name", ["Python", "js", "c++", "sql"])
def test_known_languages_have_colours(name):
    assert "<span" in render_markdown(f"```{name}\nfor x = 1;\n```")


@pytest.mark.parametrize("text", ["```\nx\n```", "    x", "| a |\n|---|\n| 1 |", "$$\nx\n$$"])
def test_what_may_be_wider_than_its_card_can_be_scrolled_with_keys(text, html_of):
    assert {"tabindex": "0"}.items() <= next(iter(html_of(render_markdown(text))))[1].items()
