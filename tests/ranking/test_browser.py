"""The report in a real browser: nothing goes wrong, nothing is asked of the network, and all of it can be used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.ranking import report, words
from automl.ranking.files import load_predictions
from automl.ranking.statistics import difference
from tests.browser import DESKTOP, PHONE, Seen, chromium, look, serious
from tests.ranking.study import HOSTILE, write_study

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def content(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))
    return found


@pytest.fixture(params=["written", "large"])
def opened(request: pytest.FixtureRequest) -> Path:
    """A page of each kind of study."""
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def desktop(browser: Any, written: Path) -> Iterator[Seen]:
    with look(browser) as seen:
        yield seen.open(written)
        assert seen.errors == []


def trials(seen: Seen) -> list[int]:
    return [int(each) for each in seen.view.locator('#board [data-s="trial"]').all_inner_texts()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_goes_wrong(browser: Any, opened: Path, size: tuple[int, int], dark: bool) -> None:
    with look(browser, size=size, dark=dark) as seen:
        seen.open(opened).show_all()
        assert seen.errors == []
        assert [url for url in seen.requests if not url.startswith("data:")] == [opened.as_uri()]
        wide = seen.view.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0  # nothing sticks out sideways
        plots = seen.view.locator("[data-figure]")
        hidden = seen.view.locator("[data-panel][hidden] [data-figure]").count()
        assert seen.view.locator("[data-figure] .main-svg").count() >= plots.count() - hidden > 8


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(browser: Any, opened: Path, size: tuple[int, int], dark: bool) -> None:
    with look(browser, size=size, dark=dark) as seen:
        seen.open(opened).show_all()
        seen.view.locator(".open").first.click()
        seen.view.evaluate("scrollTo(0, 0)")  # where the bar that stays on top covers nothing
        assert serious(seen) == []
        picks = seen.view.locator(".pick")
        picks.nth(0).check()
        picks.nth(1).check()
        seen.view.click("#compare")
        assert serious(seen) == []


def test_first_screen_has_the_answer(desktop: Seen, content: dict[str, Any]) -> None:
    shown = desktop.view.evaluate(
        """() => [...document.querySelectorAll("#answer [data-text], #answer data, #answer dt")]
            .filter((each) => each.getBoundingClientRect().bottom <= innerHeight).map((each) => each.textContent)"""
    )
    text = " ".join(shown).replace("\u00a0", " ")
    assert all(sentence in text for sentence in content["answer"])
    assert words.number("accuracy", content["refit"]["test"]["accuracy"]) in text
    assert "Latency" in text


def test_hostile_class_names_are_only_text(desktop: Seen) -> None:
    desktop.show_all()
    assert desktop.view.locator(f"#data th:text-is('{HOSTILE[0]}')").count() == 1
    assert "<script>alert(1)</script>" in desktop.view.locator("#winner").inner_text()


@pytest.mark.parametrize("key", ["score", "backbone", "train_seconds", "latency_ms", "trial"])
def test_headings_sort(desktop: Seen, content: dict[str, Any], key: str) -> None:
    rows = content["rows"]
    button = desktop.view.locator(f'[data-sort="{key}"]')
    directions = []
    for _ in range(2):
        button.click()
        direction = button.locator("..").get_attribute("aria-sort")
        directions.append(direction)
        reverse = direction == "descending"
        expected = sorted(rows, key=lambda row: (row[key], row["rank"] if not reverse else -row["rank"]))
        if reverse:
            expected.reverse()
        assert trials(desktop) == [row["trial"] for row in expected]
    assert sorted(directions) == ["ascending", "descending"]


def test_filters_leave_what_was_asked_for(desktop: Seen, content: dict[str, Any]) -> None:
    rows = content["rows"]

    def wait(expected: list[int]) -> None:
        desktop.view.wait_for_function(
            """(wanted) => JSON.stringify(wanted) === JSON.stringify(
                [...document.querySelectorAll('#board [data-s="trial"]')].map((each) => Number(each.textContent)))""",
            arg=expected,
        )

    desktop.view.fill("#max-latency", "12")
    wait([row["trial"] for row in rows if row["latency_ms"] <= 12])
    assert f"of {len(rows)} trials" in desktop.view.inner_text("#shown")
    desktop.view.click("#filters [type=reset]")
    wait([row["trial"] for row in rows])
    desktop.view.select_option("#only", "PRUNED")
    wait([row["trial"] for row in rows if row["state"] == "PRUNED"])
    desktop.view.select_option("#only", "tied")
    wait([row["trial"] for row in rows if row["tied_with_best"]])
    desktop.view.select_option("#only", "")
    desktop.view.fill("#find", "lite1 light")
    wait([
        row["trial"] for row in rows if "lite1" in row["backbone"] and row["params"]["augmentation"] == "light"
    ])  # fmt: skip
    desktop.view.fill("#find", "nothing is called so")
    wait([])


def test_rows_that_the_script_makes_are_those_of_the_server(desktop: Seen) -> None:
    read = """() => [...document.querySelectorAll("#board > tbody")].map((body) => [body.className,
        [...body.querySelectorAll("[data-s]")].map((each) => each.hidden ? "" : each.textContent.replace(/\\s/g, " ")),
        body.querySelector(".ci").getAttribute("style").replaceAll(" ", ""),
        [...body.querySelectorAll("data")].filter((each) => !each.closest("small"))
            .map((each) => [Number(each.value), each.dataset.at])])"""
    before = desktop.view.evaluate(read)
    desktop.view.click('[data-sort="trial"]')
    desktop.view.click('[data-sort="rank"]')
    after = desktop.view.evaluate(read)
    for server, script in zip(before, after, strict=True):
        assert set(server[0].split()) == set(script[0].split())
        assert server[1] == script[1]
        assert server[3] == script[3]
        ends = [[float(part.split(":")[1]) for part in each[2].strip(";").split(";")] for each in (server, script)]
        assert ends[0] == pytest.approx(ends[1], abs=1e-3)


def test_a_row_opens_by_keyboard_and_shows_its_facts(desktop: Seen, content: dict[str, Any]) -> None:
    first = content["rows"][0]
    opener = desktop.view.locator(".open").first
    opener.focus()
    desktop.view.keyboard.press("Enter")
    assert opener.get_attribute("aria-expanded") == "true"
    details = desktop.view.locator(f"#{opener.get_attribute('aria-controls')}").inner_text()
    for name, value in first["metrics"].items():
        assert words.number(name, value) in details
    assert first["command"] in details
    desktop.view.keyboard.press("Enter")
    assert opener.get_attribute("aria-expanded") == "false"


def test_two_rows_are_compared(desktop: Seen, content: dict[str, Any], textile: Any) -> None:
    rows = content["rows"]
    for index in (1, 4):
        desktop.view.locator(".pick").nth(index).focus()
        desktop.view.keyboard.press("Space")
    first, second = rows[1], rows[4]
    assert f"trial {first['trial']} and trial {second['trial']}" in desktop.view.inner_text("#picked")
    desktop.view.click("#compare")
    body = desktop.view.locator("#compared-body")
    text = body.inner_text()
    differ = [name for name in first["params"] if first["params"][name] != second["params"][name]]
    heads = body.locator("tbody th").all_inner_texts()
    assert {name.replace("_", " ") for name in differ} <= set(heads)
    same = {name for name in first["params"] if first["params"][name] == second["params"][name]}
    assert not {name.replace("_", " ") for name in same} & set(heads)
    a, b = (textile.logits[row["trial"]].argmax(1) for row in (first, second))
    assert f"They disagree on {(a != b).sum()} of 300 images" in text
    assert f"Only trial {first['trial']} is right on {((a == textile.targets) & (b != textile.targets)).sum()}," in text
    assert body.locator(".gallery li").count() == min(60, (a != b).sum())
    assert body.locator(".gallery img").count() + body.locator(".gallery .noimage").count() == min(60, (a != b).sum())
    assert body.locator(".plot .main-svg").count() > 0
    desktop.view.keyboard.press("Escape")
    assert not desktop.view.locator("#compared").is_visible()


@pytest.mark.parametrize(
    "metric", ["accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "log_loss", "auroc"]
)
@pytest.mark.parametrize("groups", [900, 75, 15, 4, 1], ids=lambda groups: f"{groups} groups")
def test_the_pages_paired_difference_is_that_of_the_package(
    browser: Any, tmp_path: Path, metric: str, groups: int
) -> None:
    made = write_study(tmp_path / metric, trials=3, metric=metric, on_disk=False)
    number = np.arange(900) ** 2 * groups // 900**2  # of unequal size
    if groups < 900:
        table = pd.read_parquet(made.folder.manifest)
        table.assign(group=[f"g{each}" for each in number]).to_parquet(made.folder.manifest)
    page = report.write(made.folder, tmp_path / "reports", study=made.study)
    first, second = (load_predictions(made.folder.trial(trial), number if groups < 900 else None) for trial in (0, 2))
    assert first is not None
    assert second is not None
    expected = difference(metric, first, second, seed=3, resamples=20_000)
    with look(browser) as seen:
        found = seen.open(page).view.evaluate("page.difference(0, 2)")
    spread = expected.high - expected.low
    assert found["low"] == pytest.approx(expected.low, abs=0.08 * spread)
    assert found["high"] == pytest.approx(expected.high, abs=0.08 * spread)
    scores = {trial.number: trial.value for trial in made.study.trials}
    assert found["value"] == pytest.approx(scores[0] - scores[2], abs=1e-6)


def test_costs_take_turns(desktop: Seen) -> None:
    desktop.view.click('[data-show="cost-train_seconds"]')
    assert desktop.view.locator('[data-panel="cost-train_seconds"] .main-svg').count() > 0
    assert not desktop.view.locator('[data-panel="cost-latency_ms"]').is_visible()


def test_plots_have_the_colours_of_the_page(desktop: Seen) -> None:
    desktop.show_all()
    drawn = desktop.view.evaluate(
        """() => [...document.querySelectorAll("[data-figure]")].filter((each) => each.data)
            .map((each) => JSON.stringify([each.data, each.layout]))"""
    )
    assert len(drawn) > 8
    assert not [each for each in drawn if "var(--" in each]


def test_light_and_dark_can_be_switched(desktop: Seen) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = desktop.view.evaluate(background)
    desktop.view.click("#theme")
    assert desktop.view.evaluate(background) != light


def test_it_prints(desktop: Seen, tmp_path: Path) -> None:
    desktop.view.pdf(path=tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 < content.count(b"/Type /Page") < 40
    desktop.view.emulate_media(media="print")
    assert not desktop.view.locator("#filters").is_visible()
    assert desktop.view.locator("#board").is_visible()


def test_paper_is_white_and_narrow_and_the_screen_is_as_before_afterwards(browser: Any, written: Path) -> None:
    with look(browser, dark=True) as seen:
        view = seen.open(written).view
        state = """() => [document.documentElement.dataset.theme ?? "",
            document.querySelectorAll("details[open]").length,
            document.querySelectorAll("[data-panel][hidden]").length]"""
        before = view.evaluate(state)
        view.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert view.evaluate(state)[0] == "light"
        assert view.evaluate("document.querySelectorAll('details:not([open])').length") == 0
        widths = view.evaluate("[...document.querySelectorAll('.plot .main-svg')].map((each) => each.clientWidth)")
        assert len(widths) > 8
        assert max(widths) <= 680
        ink = view.evaluate("getComputedStyle(document.querySelector('.plot .main-svg text')).fill")
        assert max(int(each) for each in re.findall(r"\d+", ink)[:3]) < 128
        view.evaluate("dispatchEvent(new Event('afterprint'))")
        assert view.evaluate(state) == before


def test_without_scripts_the_numbers_are_there(browser: Any, written: Path, content: dict[str, Any]) -> None:
    with look(browser, java_script_enabled=False) as seen:
        seen.view.goto(written.as_uri())
        assert trials(seen) == [row["trial"] for row in content["rows"]]
        assert "need JavaScript" in seen.view.inner_text("body")
