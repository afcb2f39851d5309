from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from automl.ranking.facts import collect
from automl.ranking.leaderboard import build
from automl.ranking.terminal import table
from tests.ranking.html import Page
from tests.ranking.study import BACKBONES, speed


def test_every_row_has_the_measurement_of_its_backbone_at_its_resolution(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    assert {row.backbone for row in board.rows} == set(BACKBONES)
    for row in board.rows:
        assert row.latency == speed(row.latency_ms)
    assert board.to_dict()["rows"][0]["latency"]["batch"]["images"] == 8


def test_what_was_not_measured_or_is_damaged_is_left_out(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=6)
    content = json.loads(made.folder.plan.read_text())
    first, second, third = content["screening"]
    first["speeds"] = {"192": first["speeds"]["224"], "224": {"one": None}}
    del second["speeds"]
    made.folder.plan.write_text(json.dumps(content))
    measured = {row.backbone for row in build(made.folder, study=made.study).rows if row.latency}
    assert measured == {third["backbone"]}
    for damaged in ({"screening": 3}, {"screening": [None, 3, {"speeds": {"a": 1}}]}, []):
        made.folder.plan.write_text(json.dumps(damaged))
        assert not any(row.latency for row in build(made.folder, study=made.study).rows)


def test_a_measurement_of_another_time_is_not_shown(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=6)
    content = json.loads(made.folder.plan.read_text())
    content["screening"][0]["speeds"] = {"224": speed(7.0)}
    made.folder.plan.write_text(json.dumps(content))
    without = {row.backbone for row in build(made.folder, study=made.study).rows if not row.latency}
    assert without == {content["screening"][0]["backbone"]}


def test_the_csv_has_it_in_columns(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    for row, line in zip(board.rows, csv.DictReader(io.StringIO(board.to_csv())), strict=False):
        assert row.latency is not None
        assert float(line["latency_p95_ms"]) == row.latency["one"]["p95_ms"] == row.latency_ms + 1.25  # type: ignore[operator]
        assert float(line["latency_batch_ms"]) == row.latency["batch"]["median_ms"]
        assert (line["latency_batch_images"], line["latency_device"]) == ("8", "CPU, 2 threads")


@pytest.mark.parametrize(("width", "told"), [(150, True), (100, False)])
def test_the_terminal_names_the_device_where_it_shows_latency(textile: Any, width: int, told: bool) -> None:
    board = build(textile.folder, study=textile.study)
    text = table(board, collect(textile.folder, textile.study, board), width=width)
    assert ("latency: of one image, the median, on CPU, 2 threads" in text) == told


def test_the_page_has_it_in_full(page: Page) -> None:
    shown = {path: text for _, path, text in page.numbers}
    assert shown["/rows/0/latency/one/p95_ms"]
    assert shown["/rows/0/latency/batch/images"] == "8"
    assert "CPU, 2 threads" in page.text
