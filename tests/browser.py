"""Chromium for the tests of pages, and the rules of axe-core; skips with a reason where one of them is missing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Seen", "chromium", "look", "serious"]

DESKTOP, PHONE = (1280, 800), (390, 844)


class Seen:
    """A page in the browser, with what went wrong on it and what it asked the network for."""

    def __init__(self, view: Any) -> None:
        self.view = view
        self.errors: list[str] = []
        self.requests: list[str] = []
        view.on("console", lambda said: said.type in ("error", "warning") and self.errors.append(said.text))
        view.on("pageerror", lambda error: self.errors.append(str(error)))
        view.on("request", lambda asked: self.requests.append(asked.url))

    def open(self, page: Path) -> Seen:
        """Open a file and wait until its scripts have run."""
        self.view.goto(page.as_uri())
        self.view.wait_for_selector("html[data-ready]", state="attached")
        return self

    def show_all(self) -> None:
        """Scroll through the page, so that everything is drawn that is drawn when it comes into view.

        No frame is waited for longer than a second: while pictures come into view, Chromium without a screen
        now and then loses the request for one (seen in 5 of 160 passes), and draws again at the next scrolling. A
        picture whose request was lost is drawn by another pass.
        """
        self.view.evaluate(
            """async () => {
              const frame = () => new Promise((done) => {
                setTimeout(done, 1000);
                requestAnimationFrame(() => requestAnimationFrame(done));
              });
              const drawn = () => [...document.querySelectorAll("[data-figure]")]
                .every((each) => !each.clientWidth || each.querySelector(".main-svg"));
              for (let pass = 0; pass < 3 && !(pass && drawn()); pass++) {
                for (let y = 0; y < document.documentElement.scrollHeight; y += 500) {
                  scrollTo(0, y);
                  await frame();
                }
              }
              scrollTo(0, 0);
            }"""
        )
        self.view.wait_for_function(
            """() => [...document.querySelectorAll("[data-figure]")]
                .every((each) => !each.clientWidth || each.querySelector(".main-svg"))"""
        )


def program() -> str | None:
    """The browser: $CHROMIUM, or the first one of the usual names that is installed."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Start the browser, for all tests of a module."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = program()
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium, or name one in $CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def look(browser: Any, *, size: tuple[int, int] = DESKTOP, dark: bool = False, **options: Any) -> Iterator[Seen]:
    """Open a tab of a `size` in pixels."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light", **options
    )
    try:
        yield Seen(context.new_page())
    finally:
        context.close()


def serious(seen: Seen) -> list[str]:
    """What axe-core finds of serious or critical violations of WCAG 2.2 A and AA; skips where it is not to be had."""
    names = ("", ".venv/axe/")
    places = (os.environ.get("AXE_CORE", ""), *(f"{each}node_modules/axe-core/axe.min.js" for each in names))
    script = next((Path(each) for each in places if each and Path(each).is_file()), None)
    if script is None:
        pytest.skip("no axe-core: make .venv/axe, or name its axe.min.js in $AXE_CORE")
    seen.view.evaluate(script.read_text("utf-8"))  # the page's own policy lets no script be added
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = seen.view.evaluate(f"axe.run(document, {{runOnly: {json.dumps(tags)}}})")
    assert len(found["passes"]) > 20  # it did look
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]}: {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]
