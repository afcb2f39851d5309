from __future__ import annotations

import base64
import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from optuna.trial import TrialState, create_trial
from PIL import Image

from automl.errors import OutputError
from automl.ranking import report, winner_plots, words
from automl.ranking.answer import answer
from automl.ranking.gallery import file_link
from automl.ranking.importance import MIN_TRIALS, importance
from automl.ranking.leaderboard import build
from automl.ranking.limits import Limits, limited
from automl.ranking.side_by_side import FORMATS
from automl.ranking.studies import compare
from tests.ranking.html import Page


def test_writes_five_files_with_the_same_facts(written: Path, textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    assert sorted(path.name for path in written.parent.iterdir()) == [
        *("index.html", "leaderboard.csv", "leaderboard.json", "leaderboard.md", "leaderboard.schema.json"),
    ]
    content = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))
    assert {name: content[name] for name in board.to_dict()} == board.to_dict()
    rows = list(csv.DictReader(io.StringIO((written.parent / "leaderboard.csv").read_text("utf-8"))))
    assert [row["trial"] for row in rows][:12] == [str(row.trial) for row in board.rows]


def test_first_screen_is_the_answer(page: Page, textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    assert board.best is not None
    assert board.refit is not None
    start = page.text[: page.text.index("Leaderboard", page.text.index("Next:"))]
    assert words.short(board.best.backbone) in start
    assert words.number("accuracy", board.best.score) in start
    assert words.bounds("accuracy", board.best.ci95) in start
    assert f"{len(board.tied)} of 9 other finished trials are tied with it" in start
    assert words.number("accuracy", board.refit["test"]["accuracy"]) in start
    assert words.milliseconds(board.best.latency_ms) in start


def test_asks_the_network_for_nothing(page: Page) -> None:
    for attribute in ("src", "href", "action", "data", "poster", "srcset"):
        for attrs in page.having(attribute):
            assert re.match(r"#|data:(image/|,)|leaderboard\.|file:///data/", attrs[attribute])
    policy = [attrs["content"] for attrs in page.having("http-equiv")]
    assert policy[0].startswith("default-src 'none'")
    assert [attrs.get("rel") for tag, attrs in page.tags if tag in {"link", "iframe", "object"}] == ["icon"]


def test_plotly_is_inlined_once(written: Path) -> None:
    assert written.read_text("utf-8").count("plotly.js v") == 1


def test_hostile_class_names_stay_text(written: Path, page: Page) -> None:
    html = written.read_text("utf-8")
    assert "<script>alert" not in html
    assert "<b>3</b>" not in html
    assert "<script>alert(1)</script>" in page.text
    assert "=cmd()" in page.text
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert (len(kinds) - kinds.count("application/json"), kinds.count("application/json")) == (4, 5)


def test_is_made_for_keyboard_and_screen_reader(page: Page) -> None:
    ids = [attrs["id"] for attrs in page.having("id")]
    assert len(ids) == len(set(ids))
    for attribute in ("aria-labelledby", "aria-controls"):
        assert {attrs[attribute] for attrs in page.having(attribute)} <= set(ids)
    assert {attrs["href"][1:] for attrs in page.having("href") if attrs["href"].startswith("#")} <= set(ids)
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("aria-label") for attrs in page.having("data-figure"))
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert [tag for tag, _ in page.tags if tag == "h1"] == ["h1"]
    assert ("html", {"lang": "en"}) in page.tags


def test_mistakes_and_sheets_are_small_and_the_unreadable_are_counted(page: Page, textile: Any) -> None:
    best = build(textile.folder, study=textile.study).rows[0].trial
    wrong = 3 * np.flatnonzero(textile.logits[best].argmax(1) != textile.targets)
    unreadable = int((wrong % 2).sum())
    assert 0 < len(wrong) <= 12
    pictures = {str(attrs["alt"]): attrs for tag, attrs in page.tags if tag == "img"}

    def sizes(word: str) -> list[tuple[int, int]]:
        found = [str(each["src"]).partition(",")[2] for alt, each in pictures.items() if word in alt]
        return [Image.open(io.BytesIO(base64.b64decode(each))).size for each in found]

    assert sizes("augmentation policy") == [(1400, 47)]
    assert sizes(", predicted ") == [(160, 96)] * (len(wrong) - unreadable)
    assert "rand & <b>" in page.text
    assert (f"{unreadable} picture" in page.text) == (unreadable > 0)
    links = [attrs["href"] for attrs in page.having("href") if str(attrs["href"]).startswith("file:")]
    assert set(links) >= {f"file:///data/{row}.png" for row in wrong}  # also of those without a picture
    assert page.text.count("no picture") >= unreadable


def test_links_to_images_move_with_the_report(tmp_path: Path) -> None:
    image, page = tmp_path / "data set" / "a#1.png", tmp_path / "reports" / "study"
    assert file_link(str(image), page) == "../../data%20set/a%231.png"
    assert file_link("/elsewhere/a.png", page) == "file:///elsewhere/a.png"
    assert file_link("a.png", page) == ""


def test_says_why_and_what_went_wrong(page: Page) -> None:
    for phrase in (
        *("the CPU has AMX", "no GPU was found", "only 600 training images", "too slow: 2 epochs fit"),
        *("truncated file: <eof>", "the class =cmd() has few images", "diverged: 1, out of memory: 1, crashed: 1."),
        *("became nan in epoch 2", "cut short by the budget after epoch 3 of 6", "pruned after epoch 2 of 6"),
        "Finished trials come before pruned ones, whatever their scores.",
    ):
        assert phrase in page.text


@pytest.mark.parametrize("trials", [0, 1, 5])
def test_can_be_written_in_the_middle_of_a_search(make_study: Callable[..., Any], tmp_path: Path, trials: int) -> None:
    made = make_study(trials=trials, finished=False)
    text = Page(report.write(made.folder, tmp_path, study=made.study).read_text("utf-8")).text
    assert "still running" in text
    assert "1 running" in text
    assert ("No answer yet" in text) == (trials == 0)
    assert f"Too few finished trials to tell: {max(0, min(trials, 4))}" in text
    assert ("automl refit" in text) == (trials > 0)


def test_before_the_model_is_tested_nothing_is_finished(make_study: Callable[..., Any], tmp_path: Path) -> None:
    made = make_study(trials=3)
    made.study.set_user_attr("stop_reason", "budget")
    texts = []
    for name in ("with", "without"):
        texts.append(Page(report.write(made.folder, tmp_path / name, study=made.study).read_text("utf-8")).text)
        (made.folder.model / "metrics.json").unlink(missing_ok=True)
    assert "its model not tested yet" not in texts[0]
    assert "its model not tested yet" in texts[1]


def test_only_pruned_trials(make_study: Callable[..., Any], tmp_path: Path) -> None:
    made = make_study(trials=0)
    made.study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.4}))
    text = Page(report.write(made.folder, tmp_path, study=made.study).read_text("utf-8")).text
    assert "No trial has finished: this one was pruned" in text


def test_missing_and_odd_files_cost_their_section_only(make_study: Callable[..., Any], tmp_path: Path) -> None:
    made = make_study(trials=12)
    for path in (made.folder.audit, made.folder.manifest):
        path.unlink()
    made.folder.plan.write_text("[]")
    (made.folder.model / "metrics.json").write_text('{"trial": 1, "test": {"accuracy": 0.5}}')
    for number in range(12):
        made.folder.trial(number).metrics.unlink(missing_ok=True)
        made.folder.trial(number).validation_logits.unlink(missing_ok=True)
    text = Page(report.write(made.folder, tmp_path, study=made.study).read_text("utf-8")).text
    assert "No audit was written." in text
    assert "No plan was written." in text
    assert "without readable predictions" in text
    assert "The package is of trial 1" in text
    assert "Retrained in full, trial 1 scored 50.0 %" in text


def test_many_classes_become_a_heat_map(make_study: Callable[..., Any], tmp_path: Path) -> None:
    made = make_study(trials=1)
    targets = np.arange(300) % 40
    logits = np.eye(40, dtype=np.float32)[np.where(np.arange(300) < 20, 0, targets)]
    value = float((logits.argmax(1) == targets).mean())
    made.study.add_trial(create_trial(state=TrialState.COMPLETE, value=max(value, 0.999), user_attrs={}))
    folder = made.folder.trial(1)
    folder.root.mkdir()
    np.savez(folder.validation_logits, logits=logits, targets=targets, rows=np.arange(300))
    page = Page(report.write(made.folder, tmp_path, study=made.study).read_text("utf-8"))
    assert "confusion-validation" in {attrs["data-figure"] for attrs in page.having("data-figure")}
    assert "class 39" in page.text


def test_classes_that_are_numbers_are_names_in_the_heat_map() -> None:
    names = sorted(map(str, range(20)))  # "0", "1", "10", …
    figure = winner_plots.confusion(np.eye(20, dtype=int).tolist(), names)
    assert {figure["layout"][axis]["type"] for axis in ("xaxis", "yaxis")} == {"category"}


def test_figures_are_valid_plotly_and_name_their_axes(page: Page) -> None:
    figures = page.scripts["figures"]
    assert {"history", "curves", "importance", "backbones", "losses", "scores", "reliability"} <= set(figures)
    assert {"cost-latency_ms", "cost-model_parameters", "cost-train_seconds"} <= set(figures)
    heat = winner_plots.confusion([[3, 1], [0, 2]], ["a", "<b>"])
    for figure in (*figures.values(), heat):
        text = re.sub(r"var\(--sans\)", "Arial", json.dumps(figure))
        drawn = go.Figure(json.loads(re.sub(r"var\(--[a-z0-9]+\)", "#123456", text)))
        assert drawn.layout.xaxis.title.text
        json.dumps(figure, allow_nan=False)
    assert "<b>" not in json.dumps(heat)


def test_importance_finds_the_parameter_that_matters(textile: Any) -> None:
    import optuna

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + 0 * trial.suggest_float("y", 0, 1), n_trials=60)
    found = importance(study)
    assert next(iter(found.shares)) == "x"
    assert sum(found.shares.values()) == pytest.approx(1)
    assert (found.trials, found.top) == (60, 6)
    assert importance(textile.study).trials == MIN_TRIALS


def test_of_the_quick_ones_the_best_is_what_the_page_says_to_retrain(textile: Any, tmp_path: Path) -> None:
    limits = Limits(max_latency_ms=12.0)
    study, _ = limited(textile.study, limits)
    best = build(textile.folder, study=study).best
    handed_over = (build(textile.folder, study=textile.study).refit or {})["trial"]
    assert best is not None
    assert best.trial != handed_over
    page = report.write(textile.folder, tmp_path, study=textile.study, limits=limits).read_text("utf-8")
    told = re.search(r"The package is of trial.*?<code>(.*?)</code> retrains the best", page, flags=re.DOTALL)
    assert told is not None
    assert told[1] == best.command == f"automl refit {textile.folder.argument} --trial {best.trial}"
    assert re.search(rf"Next:</span>\s*<span class=\"command\"><code>{re.escape(best.command)}</code>", page)


def test_unwritable_reports_folder_is_one_line(textile: Any, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("a file")
    with pytest.raises(OutputError, match="cannot write to"):
        report.write(textile.folder, tmp_path / "reports", study=textile.study)


def test_ranking_does_not_import_torch() -> None:
    code = "import sys, automl.ranking.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_test_split_that_was_opened_again_is_counted(make_study: Callable[..., Any], tmp_path: Path) -> None:
    made = make_study()
    path = made.folder.model / "metrics.json"
    for opened, said in ((1, False), (3, True)):
        path.write_text(json.dumps({**json.loads(path.read_text()), "test_opened": opened}))
        text = Page(report.write(made.folder, tmp_path / "reports", study=made.study).read_text("utf-8")).text
        assert (f"scored {opened} times" in text) is said


def test_a_refit_of_fewer_epochs_is_not_in_full(make_study: Callable[..., Any]) -> None:
    made = make_study()
    kept = json.loads((made.folder.model / "metrics.json").read_text())

    def told(epochs: int, note: str) -> str:
        content = {**kept, "epochs": epochs, "refitted": True, "note": note}
        (made.folder.model / "metrics.json").write_text(json.dumps(content))
        return words_of(build(made.folder, study=made.study))

    def words_of(board: Any) -> str:
        return " ".join([*answer(board), *board.notes])

    assert "Retrained in full" in told(6, "")
    cut = told(4, "refitted for 4 of 6 epochs: 30 s of the budget were left")
    assert "Retrained for 4 of its 6 epochs" in cut
    assert "30 s of the budget were left" in cut
    assert "in full" not in cut


def test_no_file_has_the_password_of_the_storage(make_study: Callable[..., Any], tmp_path: Path) -> None:
    storage = "postgresql+psycopg://anna:hunter2@db.example/studies"
    both = []
    for name, url in (("one", storage), ("other", "postgresql://db.example/studies?user=anna&password=hunter2")):
        made = make_study(name)
        made.study.set_user_attr("command", f"automl search data --storage '{url}' --out runs/{name}")
        made.folder.resolved.write_text(
            f"backbones: [timm/test_resnet.r160_in1k]\nsearch: {{budget: 8h, storage: '{url}'}}\n"
        )
        report.write(made.folder, tmp_path / "reports", study=made.study)
        both.append((made.folder, made.study))
    found = compare(both)
    texts = [path.read_text("utf-8") for path in (tmp_path / "reports").rglob("*") if path.is_file()]
    texts += [made_of(found) for made_of in FORMATS.values()]
    assert len(texts) == 10 + len(FORMATS)
    assert not [text for text in texts if "hunter2" in text or "anna" in text]
    assert sum("db.example/studies" in text for text in texts) >= 4  # pages and JSON: where it was, without who
