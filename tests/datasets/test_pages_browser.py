"""The data pages in a real browser: accessible in both colour schemes, whole on a phone, and an import by hand."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import reverse
from playwright.sync_api import expect

from labelapp.datasets.actions import freeze_snapshot
from labelapp.models import Judgment
from tests.browsers import sign_in
from tests.datasets.rows import as_file, pair
from tests.datasets.test_pages import project  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)
PHONE = {"width": 390, "height": 800}


@pytest.fixture
def admin(live_server, context, project):  # noqa: F811
    """The admin's browser; what its console complains of is collected on the page."""
    sign_in(context, live_server.url, project.memberships.get(role="admin").user)
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
    page.base = live_server.url
    return page


def test_the_pages_are_accessible_light_and_dark_and_fit_a_phone(admin, project):  # noqa: F811
    snapshot = freeze_snapshot(project=project, by=None)
    addresses = [reverse(name, args=[project.slug]) for name in ("project", "data", "comparisons", "judgments")]
    addresses.append(reverse("snapshot", args=[project.slug, snapshot.digest]))
    for address in addresses:
        admin.goto(admin.base + address)
        for scheme in ("light", "dark"):
            admin.emulate_media(color_scheme=scheme)
            found = Axe().run(admin)
            assert not found.violations_count, f"{address} {scheme}: {found.generate_report()}"
        size = admin.viewport_size
        admin.set_viewport_size(PHONE)
        assert admin.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
        admin.set_viewport_size(size)
    assert admin.complaints == []


def test_an_admin_imports_a_file_freezes_and_downloads_what_the_trainer_reads(admin, project, tmp_path):  # noqa: F811
    file = tmp_path / "more.jsonl"
    file.write_bytes(as_file(pair("Argue for boats."), pair("Argue for canals.")).getvalue())
    admin.goto(admin.base + reverse("data", args=[project.slug]))

    admin.get_by_label("File").set_input_files(file)
    admin.get_by_role("button", name="Import", exact=True).click()
    expect(admin.get_by_role("status")).to_contain_text("more.jsonl: 2 rows, 2 new judgments")
    assert Judgment.objects.filter(external_annotator="import:more.jsonl").count() == 2

    admin.get_by_role("button", name="Freeze a snapshot").click()
    expect(admin.get_by_role("heading", level=1)).to_contain_text("Snapshot ")
    snapshot = project.snapshots.get()
    with admin.expect_download() as download:
        admin.get_by_role("link", name="pairs-train.jsonl").click()
    with open(f"{snapshot.path}/pairs-train.jsonl", "rb") as kept:
        assert download.value.path().read_bytes() == kept.read()
