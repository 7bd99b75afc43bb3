"""What the labeling page weighs: `python3 manage.py bench page` prints one JSON line in about a minute.

A real browser (playwright with Chromium) opens it from the web server with production's settings, on a phone's screen
with a quarter of the processor and a slow 4G line, and then judges. Bytes are those on the wire, headers included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import _queue_fill
from benchmarks.queue import Bench
from labelapp.embedded import Services

SLOW_4G = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 750e3 / 8}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "has_touch": True, "is_mobile": True}
SLOWER = 4
JUDGED = 5
PAINTED = """new PerformanceObserver(list => list.getEntries().forEach(entry => { window.painted = entry.startTime }))
  .observe({type: "largest-contentful-paint", buffered: true})"""


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="bench page", description=__doc__).parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="lb-page-") as work:
        os.chmod(work, 0o755)  # a root's database server runs under another account, which must get through
        os.environ["LABELAPP_VAR"] = work  # before settings are read: nothing of the user's is touched
        services = Services("queue")
        with services.held(broker=False):
            bench = Bench(Path(work), services, 2, seconds=1)
            bench.fill("small", 90)
            with bench.web("small") as arm:
                print(json.dumps(measure(arm, bench.made["people"])))
    return 0


def measure(arm: dict[str, Any], people: list[dict]) -> dict[str, Any]:
    """One person warms the server's processes up; the other's browser is measured."""
    from playwright.sync_api import sync_playwright

    url = f"http://127.0.0.1:{arm['port']}/p/{_queue_fill.SLUG}/label/"
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        with playwright.chromium.launch(executable_path=chromium, args=flags) as browser:
            for _ in range(3):
                visit(browser, url, people[0], slow=False)
            return visit(browser, url, people[1], slow=True)


def visit(browser: Any, url: str, person: dict, *, slow: bool) -> dict[str, Any]:
    context = browser.new_context(**PHONE)
    context.add_cookies([{"name": "sessionid", "value": person["session"], "url": url}])
    page = context.new_page()
    wire = context.new_cdp_session(page)
    sizes: list[int] = []
    wire.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    wire.send("Network.enable")
    if slow:
        wire.send("Network.emulateNetworkConditions", SLOW_4G)
        wire.send("Emulation.setCPUThrottlingRate", {"rate": SLOWER})
    page.add_init_script(PAINTED)
    page.goto(url, wait_until="networkidle")
    first = {"requests": len(sizes), "kb": round(sum(sizes) / 1024, 1), "lcp_ms": round(page.evaluate("painted"))}
    before = len(sizes)
    for _ in range(JUDGED if slow else 0):
        slot = page.locator("#answer [name=slot]").input_value()
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        page.wait_for_function("slot => document.querySelector('#answer [name=slot]').value !== slot", arg=slot)
    page.wait_for_timeout(6000 if slow else 0)  # the next item is shown before the answer has been sent
    after = sizes[before:]
    context.close()
    following = {"kb": round(sum(after) / 1024 / JUDGED, 2), "requests": len(after) / JUDGED}
    return {"first": first, "following": following, "judged": JUDGED}


if __name__ == "__main__":
    sys.exit(main())
