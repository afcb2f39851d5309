"""What a leaderboard says of a warm start, of a synthetic study."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from automl.ranking import facts, report, tables, words
from automl.ranking.leaderboard import build
from automl.ranking.lessons import lessons
from automl.ranking.terminal import table
from automl.search.snapshot import view
from automl.search.taken import Considered, LeftOut, Taken, WarmStart
from tests.ranking.html import Page, plain
from tests.ranking.study import BACKBONES

PARAMS = {"backbone": BACKBONES[0], "freeze_depth": 0.5, "learning_rate": 0.001, "layer_decay": None}
FOUND = WarmStart(
    taken=(
        Taken("runs/<a>", 7, "macro_f1", 0.875, PARAMS, ("freeze_depth 0.25 → 0.5",)),
        Taken("runs/<a>", 8, "macro_f1", 0.85, PARAMS),
        Taken("runs/b", 1, "log_loss", 0.213, PARAMS),
        Taken("runs/b", 2, "accuracy", 0.8, PARAMS),
    ),
    studies=(
        Considered("runs/<a>", 0.25, {"images": 0.25}, 2, ""),
        Considered("runs/b", 1.5, {"images": 1.5}, 2, ""),
        Considered("runs/c", None, {}, 0, "its study cannot be read: <torn>"),
    ),
    left_out=tuple(LeftOut("runs/b", number, "it is like one that is taken") for number in range(3, 12)),
)


@pytest.fixture
def warm(make_study: Callable[..., Any]) -> Any:
    """Trial 0 tries the first configuration, trial 6, which diverged, the second, and 1 the third, resumed as 2."""
    made = make_study()
    made.study.set_user_attr("warm_start", FOUND.to_dict())
    trials = made.study.get_trials()
    for number, attrs in ((0, FOUND.taken[0].attrs), (6, FOUND.taken[1].attrs), (1, FOUND.taken[2].attrs)):
        trials[number].user_attrs |= attrs
    trials[2].user_attrs |= {"root": 1}
    return replace(made, study=view(made.study, trials))


def test_every_configuration_is_named_with_what_came_of_it(warm: Any) -> None:
    board = build(warm.folder, study=warm.study)
    found = lessons(warm.study, board)
    assert found is not None
    rows = {row.trial: row for row in board.rows}
    assert [each.trial_here for each in found.taken] == [0, 6, 2, None]
    assert [each.rank_here for each in found.taken] == [rows[0].rank, None, rows[2].rank, None]
    assert [each.score_here for each in found.taken] == [rows[0].score, None, rows[2].score, None]


def test_text_says_it_all(warm: Any) -> None:
    board = build(warm.folder, study=warm.study)
    collected = facts.collect(warm.folder, warm.study, board)
    here = {row.trial: row for row in board.rows}[0]
    for text in (table(board, collected), tables.to_markdown(board, collected).replace("&lt;", "<").replace("\\", "")):
        text = text.replace("&gt;", ">")
        outcome = f"trial 0 here, rank {here.rank}, {words.number('accuracy', here.score)}"
        assert f"trial 7 of runs/<a> (87.5 % there): {outcome}; moved: freeze_depth 0.25 → 0.5" in text
        assert "trial 8 of runs/<a> (85.0 % there): trial 6 here, which has no score" in text
        assert "trial 1 of runs/b (0.213 there): trial 2 here, rank" in text
        assert "trial 2 of runs/b (80.0 % there): not tried" in text
        assert "runs/c is not used: its study cannot be read: <torn>" in text
        assert text.count("is not taken: it is like one that is taken") == 6
        assert "3 more are not taken" in text


def test_the_page_and_the_json_say_it_all(warm: Any, tmp_path: Path) -> None:
    written = report.write(warm.folder, tmp_path / "reports", study=warm.study)
    content = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))
    jsonschema.validate(content, json.loads((written.parent / "leaderboard.schema.json").read_text("utf-8")))
    told = content["warm_start"]
    assert [each["trial"] for each in told["taken"]] == [7, 8, 1, 2]
    assert told["studies"][2]["distance"] is None
    page = Page(written.read_text("utf-8"))
    shown = {path: (value, text) for value, path, text in page.numbers}
    assert shown["/warm_start/taken/0/score"] == ("0.875", "87.5 %")
    assert shown["/warm_start/taken/2/score"] == ("0.213", "0.213")
    assert shown["/warm_start/taken/0/trial_here"] == ("0", "0")
    assert shown["/warm_start/studies/0/distance"] == ("0.25", "0.25")
    assert "/warm_start/taken/3/trial_here" not in shown
    assert plain(page.sentences["/warm_start/studies/2/why"]) == "its study cannot be read: <torn>"
    assert page.sentences["/warm_start/taken/0/moved/0"] == "freeze_depth 0.25 → 0.5"
    assert len([path for path in page.sentences if path.startswith("/warm_start/left_out/")]) == 18


def test_a_search_without_earlier_ones_says_nothing(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    collected = facts.collect(textile.folder, textile.study, board)
    assert collected.warm_start is None
    assert "warm_start" not in facts.content(board, collected)
    assert "Warm start" not in table(board, collected)
