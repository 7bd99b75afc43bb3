"""Hostile texts in every place where people or models write: nothing runs, nothing is loaded, nothing is taken over.

tests/data/xss.txt holds one payload a line, with control pictures (U+2400 on; U+2424 is a new line) for what cannot
stand in a line.
"""

import re
from itertools import cycle
from pathlib import Path

import pytest
from playwright.sync_api import expect

from labelapp.labeling.protocol import Criterion, Protocol
from labelapp.labeling.text.render import render_markdown
from labelapp.models import Membership, Project, User
from tests.browsers import sign_in
from tests.site.filled import make_filled
from tests.site.pages import PAGES

pytestmark = pytest.mark.django_db(transaction=True)
PICTURES = {0x2400 + code: chr(code) for code in range(1, 0x20)} | {0x2424: "\n"}
LINES = (Path(__file__).parent / "data" / "xss.txt").read_text().split("\n")
PAYLOADS = [line.translate(PICTURES) for line in LINES if line]
EVERYTHING = "\n\n".join(PAYLOADS)

# Whoever runs a payload's alert(1) is counted, and so is all that the content security policy had to stop.
LISTEN = """
  window.executed = [];
  window.violations = [];
  for (const name of ["alert", "confirm", "prompt"]) window[name] = (...said) => { window.executed.push(name); };
  document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
  });
"""
# What no text may bring into a page: handlers and scripts' addresses anywhere; in rendered text also whatever acts,
# loads, takes a name from the page's own scripts, or speaks to htmx.
AUDIT = """() => {
  const found = [];
  const say = (element) => found.push(element.outerHTML.slice(0, 160));
  const leads = /^(href|src|srcset|action|formaction|xlink:href|data|poster|background)$/i;
  const active = /^[\\u0000-\\u0020]*(javascript|vbscript|data|blob|filesystem|feed|view-source):/i;
  for (const element of document.querySelectorAll("body, body *")) {
    for (const { name, value } of element.attributes) {
      if (/^on/i.test(name)) say(element);
      if (leads.test(name) && active.test(value)) say(element);
    }
  }
  const acts = "script, style, iframe, object, embed, form, input, button, select, textarea, img, image, svg,"
    + "link, meta, base, template, video, audio, [id], [name], [style], [ping], [is], [slot]";
  for (const element of document.querySelectorAll(":is(.text, .guideline-text) *")) {
    const names = element.getAttributeNames();
    if (element.matches(acts) || names.some((name) => /^(data-)?hx-|^data-/.test(name))) say(element);
  }
  return found;
}"""


def hostile(texts=None):
    """A write() for make_filled: all payloads where there is room, the next one where there is not."""
    short = cycle(texts or PAYLOADS)
    return lambda default, longest: f"{default}\n\n{EVERYTHING}" if longest >= 2000 else next(short)[:longest]


def hostile_protocol() -> Protocol:
    """Payloads in every word of a protocol."""
    short = [payload.strip() for payload in PAYLOADS if len(payload.strip()) <= 60]
    criteria = [
        Criterion(f"c{number}", text, low_word=text[:40], high_word=text[:40], help=text, required=False)
        for number, text in enumerate(short[:12])
    ]
    return Protocol(
        question=EVERYTHING[:2000], grades=tuple(short[20:23]), criteria=tuple(criteria), safety=True,
        span_reasons=tuple(short[:9]), chips=tuple(short), rewrite="both_bad",
    )  # fmt: skip


@pytest.fixture
def visit(live_server, context):
    """A page of the browser on which everything that happens is listened to, signed in as the given person."""
    requests = []
    context.add_init_script(LISTEN)
    context.on("request", lambda request: requests.append(request.url))

    def open_page(person):
        sign_in(context, live_server.url, person)
        page = context.new_page()
        page.requests, page.home = requests, live_server.url
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
        return page

    return open_page


def harmless(page, address: str) -> None:
    """Fail unless the page is where it was opened, ran nothing, asked nobody else, and holds nothing that could."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.url.startswith(page.home + address), page.url
    assert page.evaluate("window.executed") == [], address
    assert page.evaluate("window.violations") == [], address
    assert [url for url in page.requests if not url.startswith((page.home, "blob:", "about:"))] == [], address
    assert page.evaluate(AUDIT) == [], address
    assert all(not frame.url.startswith(("javascript", "data")) for frame in page.frames)


def opened(page, route, filled) -> str:
    address = route.address(filled)
    response = page.goto(page.home + address)
    assert response.status == 200, f"{address}: {response.status}"
    return address


def test_there_are_payloads_enough():
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 150


def test_whatever_runs_or_loads_would_be_noticed(visit, tmp_path, settings):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path)
    page = visit(filled.people["labeler"])
    page.goto(page.home + "/p/filled/label/")
    payload = "<img name=x src=https://evil.example onerror=alert(1)>"
    page.evaluate(f"document.querySelector('.text').innerHTML = '{payload}'")
    page.wait_for_function("window.violations.length >= 2")
    assert len(page.evaluate(AUDIT)) == 2
    page.evaluate("alert(1)")
    assert page.evaluate("window.executed") == ["alert"]


def test_hostile_texts_are_only_text_while_they_are_judged(visit, tmp_path, settings):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path, hostile(), hostile_protocol())
    page = visit(filled.people["colleague"])
    address = "/p/filled/label/"
    page.goto(page.home + address)
    assert "evil.example" in page.locator("main").inner_text()
    harmless(page, address)
    asked = page.locator("[name=claim]").first.input_value()
    for key in ("g", "m", "d", "?", "Escape"):
        page.keyboard.press(key)
    harmless(page, address)
    page.evaluate(JUDGE)
    expect(page.locator("[name=claim]").first).not_to_have_value(asked)
    harmless(page, address)


# Answer all that is asked, with the first of the choices, and send it.
JUDGE = """() => {
  const form = document.getElementById("answer");
  const done = new Set();
  for (const field of form.elements) {
    if (field.type === "radio" && !done.has(field.name)) { field.checked = true; done.add(field.name); }
  }
  form.requestSubmit(form.querySelector(".submit"));
}"""


@pytest.mark.parametrize("role", ["reviewer", "admin"])
def test_hostile_texts_are_only_text_on_every_page(role, visit, tmp_path, settings):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path, hostile(), hostile_protocol())
    page = visit(filled.people[role])
    for route in PAGES:
        if role in route.roles:
            harmless(page, opened(page, route, filled))


def test_hostile_names_of_people_and_projects_are_only_text(visit, tmp_path, settings):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path)
    people = [User(username=payload[:150], email=f"p{n}@ok.example") for n, payload in enumerate(PAYLOADS)]
    User.objects.bulk_create(people)
    Membership.objects.bulk_create([Membership(project=filled.project, user=user, role="labeler") for user in people])
    projects = [Project(slug=f"p-{n}", name=payload[:120], description=payload) for n, payload in enumerate(PAYLOADS)]
    Project.objects.bulk_create(projects)
    admin = filled.people["admin"]
    Membership.objects.bulk_create([Membership(project=project, user=admin, role="admin") for project in projects])
    page = visit(admin)
    for route in PAGES:
        if "admin" in route.roles:
            address = opened(page, route, filled)
            harmless(page, address)
    page.goto(page.home + "/")
    said = re.sub(r"\s+", " ", page.locator("main").inner_text())
    assert all(re.sub(r"\s+", " ", payload[:120]).strip() in said for payload in PAYLOADS)
    harmless(page, "/")


def test_each_payload_alone_is_harmless_where_it_is_put_into_a_page(visit, tmp_path, settings):
    settings.ARTIFACT_DIR = tmp_path
    filled = make_filled(tmp_path)
    page = visit(filled.people["labeler"])
    page.goto(page.home + "/p/filled/label/")
    put = """(texts) => {
      const place = document.querySelector(".text");
      for (const text of texts) place.appendChild(document.createElement("div")).innerHTML = text;
      for (const one of [...place.children]) one.innerHTML = one.innerHTML;  // parsed a second time: no mutation wakes
    }"""
    page.evaluate(put, [render_markdown(payload) for payload in PAYLOADS])
    harmless(page, "/p/filled/label/")
