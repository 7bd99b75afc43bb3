"""The whole loop in a real browser, on real data: judge, freeze, launch, watch, promote, ask, judge again.

Everything is the product's own: granian, a Celery worker, the engine, the official OpenAI client, and people's votes
from UKPConvArg1. Only the model is small enough to be made on the spot.
"""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from django.core.management import call_command
from openai import OpenAI
from playwright.sync_api import Browser, Page, expect
from safetensors.numpy import load_file

from labelapp.models import Comparison, Deployment, Judgment, Project, Round, Version
from labelapp.rounds.decision import decide
from labelapp.rounds.promote import found_alias
from tests.factories import make_project, make_prompt, make_user, make_version
from tests.gate.rounds import make_gate
from tests.tiny_models import make_tiny_policy

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = Path(__file__).parents[1] / "data" / "ukpconvarg1-sample.jsonl"
PASSWORD = "correct horse battery"
MINUTE = 60_000  # milliseconds; nets for hangs on a busy machine
COUNT_UPDATES = """
  window.updates = 0;
  const Real = window.EventSource;
  window.EventSource = class extends Real {
    constructor(...words) {
      super(...words);
      for (const name of ["progress", "metrics"]) this.addEventListener(name, () => { window.updates += 1; });
    }
  };
"""


@pytest.fixture
def project(tmp_path):
    """Real judged pairs, open comparisons, fresh prompts, and a served policy."""
    ada = make_user("ada", PASSWORD)
    project = make_project("convincing", admin=ada, labeler=make_user("lena", PASSWORD))
    project.test_share = 0.4
    project.save()
    call_command("import", project.slug, str(ROWS), "--source", "UKPConvArg1", "--json")
    call_command("import", project.slug, str(write_open_rows(tmp_path)), "--json")
    for topic in ("cities should plant more trees", "trains are better than cars", "music belongs in every school"):
        make_prompt(project, f"Argue that {topic}.", fresh=True)
    path = tmp_path / "base"
    base = make_version(project, name="policy-base", path=str(path), digest=make_tiny_policy(path))
    found_alias(project=project, version=base, by=ada, reason="the test's base model")
    return project


def write_open_rows(folder: Path) -> Path:
    """Pairs that nobody here has judged: each chosen argument against the next row's of the same prompt."""
    rows = [json.loads(line) for line in ROWS.read_text().splitlines()]
    follow = [(a, b) for a, b in pairwise(rows) if a["prompt"] == b["prompt"]]
    pairs = [(a["prompt"], a["group"], [a["chosen"], b["chosen"]]) for a, b in follow if a["chosen"] != b["chosen"]]
    path = folder / "open.jsonl"
    keys = ("prompt", "group", "completions")
    path.write_text("".join(json.dumps(dict(zip(keys, pair, strict=True))) + "\n" for pair in pairs[:8]))
    return path


def sign_in(browser: Browser, address: str, name: str) -> Page:
    page = browser.new_context().new_page()
    page.complaints = []
    page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(address)
    page.locator("[name=login]").fill(name)
    page.locator("[name=password]").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    return page


def judge(page: Page, *keys: str) -> None:
    for number, key in enumerate(keys, 1):
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        expect(page.locator(".judged")).to_have_text(f"{number} judged")


def launch_and_watch(page: Page, address: str) -> Round:
    """Launch through the form and stay on the page until the round says it is done."""
    page.goto(f"{address}/p/convincing/rounds/new/")
    page.get_by_text("Numbers of the recipe").click()
    page.get_by_label("Reward model: epochs").fill("2")
    page.get_by_label("Held-out prompts to sample").fill("6")
    page.get_by_label("Further settings").fill("audit.max_items=4\naudit.max_new_tokens=8")
    page.add_init_script(COUNT_UPDATES)
    page.get_by_role("button", name="Launch").click()
    expect(page.locator("[data-state]")).to_have_text("done", timeout=4 * MINUTE)
    assert page.evaluate("window.updates") >= 3
    return Round.objects.get(kind=Round.Kind.TRAINING)


def promote(page: Page, address: str, version: Version) -> None:
    page.goto(f"{address}/p/convincing/versions/{version.name}/promote/")
    page.locator("[name=reason]").fill("A test's model is too small to pass any gate.")
    page.get_by_role("button", name=re.compile("^Promote")).click()
    expect(page.get_by_text("epoch 2").first).to_be_visible(timeout=MINUTE)


def make_key(page: Page, address: str) -> str:
    page.goto(f"{address}/p/convincing/serving/")
    page.locator("#key-name").fill("path test")
    page.get_by_role("button", name="Make a key").click()
    return page.locator("#token").inner_text().strip()


def weights(version: Version) -> dict:
    return load_file(Path(version.path) / "model.safetensors")


def test_a_judgment_travels_from_the_browser_to_a_served_policy_and_back(
    browser, project, web_server, celery_worker, engine_process
):
    address = web_server()
    celery_worker()
    before = Judgment.objects.count()
    lena, ada = sign_in(browser, address, "lena"), sign_in(browser, address, "ada")

    judge(lena, "2", "t", "7")
    assert Judgment.objects.count() == before + 3

    ada.goto(f"{address}/p/convincing/data/")
    ada.get_by_role("button", name="Freeze a snapshot").click()
    snapshot = project.snapshots.get()
    expect(ada.get_by_text(str(snapshot)).first).to_be_visible()
    assert snapshot.judgments == before + 3

    round = launch_and_watch(ada, address)
    assert round.snapshot == snapshot
    candidate, base = round.versions.get(kind="policy"), round.parent
    assert any((weights(candidate)[name] != value).any() for name, value in weights(base).items())

    rule = {"key": "mean_length_tokens", "direction": "lower", "margin": 1000.0, "minimum": 2}
    make_gate(project, rule, {"key": "win_rate", "limit": 0.5, "minimum": 10_000})
    decision = decide(candidate)
    length = decision.lines[0].beside  # as the round's own stage measured both
    assert (decision.champion, decision.verdict, length.compared.clusters) == (base, "no-evidence", 6)
    assert length.champion == pytest.approx(decision.lines[0].metric["baselines"]["parent"])
    expect(ada.get_by_role("link", name=candidate.name).first).to_be_visible()

    promote(ada, address, candidate)
    assert Deployment.objects.get().version == candidate

    client = OpenAI(base_url=f"{address}/v1", api_key=make_key(ada, address))
    answer = client.chat.completions.create(
        model="policy", messages=[{"role": "user", "content": "Argue that trains are fun."}], max_tokens=12
    )
    assert answer.system_fingerprint == candidate.name
    assert answer.usage.completion_tokens > 0

    ada.goto(f"{address}/p/convincing/versions/")
    ada.get_by_label("Prompts").fill("3")
    ada.get_by_role("button", name="Sample new comparisons").click()
    expect(ada.locator("[data-state]")).to_have_text("done", timeout=MINUTE)
    sampled = Comparison.objects.filter(round__kind=Round.Kind.SAMPLING)
    assert sampled.count() > 0

    lena.goto(f"{address}/p/convincing/label/")
    judge_all(lena, project)
    assert Judgment.objects.filter(comparison__in=sampled).count() == sampled.count()
    assert lena.complaints == [] and ada.complaints == []


def judge_all(page: Page, project: Project) -> None:
    """Judge what is left; the policy's answers come blind: no version's name is on the page."""
    for number in range(4, 4 + project.slots.exclude(state="done").count()):
        assert "policy-" not in page.content()
        page.keyboard.press("3")
        page.keyboard.press("Enter")
        expect(page.locator(".judged")).to_have_text(f"{number} judged")
