from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.leaderboard import build
from automl.ranking.statistics import METRICS
from automl.spreadsheet import spreadsheet_safe
from tests.ranking.study import sklearn_scores

ROW = {
    *("rank", "trial", "state", "backbone", "params", "score", "ci95", "tied_with_best", "epochs", "train_seconds"),
    *("model_parameters", "latency_ms", "peak_memory_mb"),
}


def test_finished_before_pruned_and_by_score(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    assert [row.rank for row in board.rows] == list(range(1, 13))
    states = [row.state for row in board.rows]
    assert states == sorted(states)
    finished = [row.score for row in board.rows if row.state == "COMPLETE"]
    assert finished == sorted(finished, reverse=True)
    assert board.best is not None
    assert board.best.score == max(t.value for t in textile.study.trials if t.state == TrialState.COMPLETE)
    pruned = [row for row in board.rows if row.state == "PRUNED"]
    assert {row.trial for row in pruned} == {4, 10}
    assert any(pruned[0].score > score for score in finished)


def test_truncated_is_ranked_and_labelled(textile: Any) -> None:
    (row,) = [row for row in build(textile.folder, study=textile.study).rows if row.reason == "truncated"]
    assert (row.trial, row.state, row.label) == (7, "COMPLETE", "cut short by the budget after epoch 3 of 6")


def test_failures_keep_their_reason_whatever_optuna_was_told(textile: Any) -> None:
    failures = {failure.trial: failure for failure in build(textile.folder, study=textile.study).failures}
    assert {n: (f.state, f.reason) for n, f in failures.items()} == {
        6: ("PRUNED", "diverged"),
        9: ("PRUNED", "out_of_memory"),
        12: ("FAIL", "crashed"),
    }
    assert "channels" in failures[12].message


def test_scores_and_intervals_are_those_of_the_predictions(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    for row in board.rows:
        predicted = textile.logits[row.trial].argmax(1)
        assert row.score == pytest.approx((predicted == textile.targets).mean(), abs=1e-9)
        assert row.ci95 is not None
        assert row.ci95[0] < row.score < row.ci95[1]


def test_ties_are_the_finished_trials_whose_difference_may_be_zero(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    assert 0 < len(board.tied) < len(board.rows) - 1
    for row in board.rows[1:]:
        behind = row.behind_best_ci95
        assert (behind is None) == (row.state == "PRUNED")
        assert row.tied_with_best == (behind is not None and behind[0] <= 0 <= behind[1])


def test_the_corrected_best_is_in_the_json(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    found = json.loads(board.to_json())["best_corrected"]
    assert set(found) == {"value", "ci95", "luck", "trials", "method"}
    assert board.best is not None
    assert found["value"] == pytest.approx(board.best.score - found["luck"])
    assert found["ci95"][0] < found["value"] < found["ci95"][1]
    assert found["trials"] == sum(row.state == "COMPLETE" for row in board.rows)


def test_the_corrected_best_needs_the_predictions_of_the_best(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=4)
    best = build(made.folder, study=made.study).rows[0].trial
    made.folder.trial(best).validation_logits.unlink()
    board = build(made.folder, study=made.study)
    assert (board.best_corrected, board.validation_images) == (None, None)
    assert not any(row.behind_best_ci95 for row in board.rows)


@pytest.mark.parametrize("metric", METRICS)
def test_ranked_by_another_metric(textile: Any, metric: str) -> None:
    board = build(textile.folder, study=textile.study, metric=metric)
    finished = [row for row in board.rows if row.state == "COMPLETE"]
    scores = {n: sklearn_scores(logits, textile.targets)[metric] for n, logits in textile.logits.items()}
    assert [row.score for row in finished] == pytest.approx([scores[row.trial] for row in finished], abs=1e-9)
    order = sorted((row.score for row in finished), reverse=metric != "log_loss")
    assert [row.score for row in finished] == order
    assert (board.metric, board.direction) == (metric, "minimize" if metric == "log_loss" else "maximize")
    for row in finished:
        assert row.ci95 is not None
        assert row.ci95[0] < row.score < row.ci95[1]
        assert row.tied_with_best == (
            row.rank == 1 or (row.behind_best_ci95 or (1, 1))[0] <= 0 <= row.behind_best_ci95[1]
        )
    assert board.best_corrected is not None
    assert (board.best_corrected.value <= board.rows[0].score) == (metric != "log_loss")
    assert [note.partition(";")[0] for note in board.notes] == [f"Ranked by {words.metric_name(metric)}"] * (
        metric != "accuracy"
    )


def test_a_class_without_validation_images_is_told_where_it_matters(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=3)
    audit = json.loads(made.folder.audit.read_text())
    audit["counts"]["moth-eaten"] = {"train": 4, "test": 1}
    made.folder.audit.write_text(json.dumps(audit))

    def told(metric: str) -> list[str]:
        notes = build(made.folder, study=made.study, metric=metric).notes
        return [note for note in notes if "moth-eaten" in note]

    assert told("accuracy") == told("log_loss") == []
    left_out = "Balanced accuracy is the mean over the classes that the validation images have; left out: moth-eaten."
    assert told("balanced_accuracy") == [left_out]
    assert told("auroc") == [left_out.replace("Balanced accuracy", "AUROC")]
    assert told("macro_recall")[0].startswith("Macro recall counts a class without validation images as 0 where a")


def test_another_metric_comes_from_the_last_epoch_where_predictions_are_missing(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=4)
    for number in (0, 1):
        made.folder.trial(number).validation_logits.unlink()
    attrs = {"metrics": {"macro_f1": 0.99}, "reason": "complete"}
    made.study.add_trial(create_trial(value=0.5, user_attrs=attrs))
    made.study.add_trial(create_trial(value=0.5, user_attrs={"reason": "complete"}))
    board = build(made.folder, study=made.study, metric="macro_f1")
    assert board.rows[0].trial == 4
    assert {row.trial: row.score for row in board.rows}[0] == pytest.approx(
        sklearn_scores(made.logits[0], made.targets)["macro_f1"], abs=1e-9
    )
    assert {row.trial for row in board.rows if row.ci95 is None} == {0, 1, 4}
    assert "Not ranked, since macro F1 was not kept, trials 5." in board.notes


def test_an_unknown_metric_names_the_known_ones(textile: Any) -> None:
    with pytest.raises(ValueError, match="log_loss"):
        build(textile.folder, study=textile.study, metric="f2")


def test_the_same_study_gives_the_same_leaderboard(textile: Any) -> None:
    first, second = (build(textile.folder, study=textile.study).to_json() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_ranks_in_its_direction(make_study: Callable[..., Any], metric: str) -> None:
    made = make_study(metric, metric=metric, trials=3)
    board = build(made.folder, study=made.study)
    scores = [row.score for row in board.rows]
    assert scores == sorted(scores, reverse=metric != "log_loss")
    assert board.direction == ("minimize" if metric == "log_loss" else "maximize")
    assert all(row.ci95 and row.ci95[0] <= row.score <= row.ci95[1] for row in board.rows)
    assert not board.notes


def test_json_keeps_the_contract(textile: Any) -> None:
    content = json.loads(build(textile.folder, study=textile.study).to_json())
    assert content["schema_version"] == 1
    assert {"study", "metric", "direction", "stop_reason", "rows", "refit"} <= set(content)
    assert content["direction"] == "maximize"
    assert all(set(row) >= ROW for row in content["rows"])
    assert {"trial", "validation", "test"} <= set(content["refit"])
    assert content["rows"][0]["ci95"] == sorted(content["rows"][0]["ci95"])


def test_json_has_no_nan(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=1)
    made.study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            value=0.5,
            user_attrs={"latency_ms": float("nan"), "metrics": {"ece": float("inf")}},
        )
    )
    text = build(made.folder, study=made.study).to_json()
    assert json.loads(text)["rows"][1]["latency_ms"] is None
    assert "NaN" not in text


def test_csv_has_a_line_per_trial_and_runs_nothing(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=2)
    made.study.add_trial(
        create_trial(
            state=TrialState.FAIL,
            params={"head": "@SUM(1)"},
            distributions={"head": optuna.distributions.CategoricalDistribution(["@SUM(1)"])},
            user_attrs={
                "reason": "crashed",
                "message": "-1 <script>, a\nsecond line",
                "spec": {"backbone": '=HYPERLINK("http://x")'},
            },
        )
    )
    rows = list(csv.DictReader(io.StringIO(build(made.folder, study=made.study).to_csv())))
    assert len(rows) == 3
    assert float(rows[0]["score"]) >= float(rows[1]["score"])
    assert rows[2]["backbone"] == """'=HYPERLINK("http://x")"""
    assert rows[2]["param_head"] == "'@SUM(1)"
    assert rows[2]["message"].startswith("'-1")
    assert rows[2]["rank"] == rows[2]["score"] == ""


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\uff1d1"])
def test_spreadsheet_safe(text: str) -> None:
    assert spreadsheet_safe(text) == "'" + text


@pytest.mark.parametrize("value", [-1, -0.5, "a=1", "", None, "1-2"])
def test_spreadsheet_safe_leaves_the_rest(value: Any) -> None:
    assert spreadsheet_safe(value) == value


def test_markdown_is_one_table_without_foreign_markup(textile: Any) -> None:
    text = build(textile.folder, study=textile.study).to_markdown()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 12
    assert "&lt;b&gt;" in text
    assert "<b>" not in text


def test_equal_scores_go_to_the_smaller_model_then_the_lower_log_loss(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=0)
    for size, loss in ((9, 0.1), (5, 0.3), (5, 0.2), (5, 0.2)):
        attrs = {"model_parameters": size, "metrics": {"log_loss": loss}}
        made.study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.9, user_attrs=attrs))
    assert [row.trial for row in build(made.folder, study=made.study).rows] == [2, 3, 1, 0]


def test_pruned_are_ranked_by_epochs_then_score(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=0)
    for values in ([0.9], [0.1, 0.2, 0.3], [0.8, 0.5]):
        reported = dict(enumerate(values, start=1))
        made.study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values=reported))
    board = build(made.folder, study=made.study)
    assert [(row.trial, row.epochs, row.score) for row in board.rows] == [(1, 3, 0.3), (2, 2, 0.5), (0, 1, 0.9)]


def test_before_the_first_trial(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=0, finished=False)
    board = build(made.folder, study=made.study)
    assert (board.best, board.rows, board.stop_reason) == (None, (), None)
    assert board.counts["RUNNING"] == 1
    assert "No trial has a score yet" in board.to_markdown()
    assert len(board.to_csv().splitlines()) == 1


def test_missing_torn_and_stale_predictions_cost_the_interval_and_are_named(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=4)
    made.folder.trial(0).validation_logits.unlink()
    torn = made.folder.trial(1).validation_logits
    torn.write_bytes(torn.read_bytes()[:2000])
    np.savez(made.folder.trial(2).validation_logits, logits=-made.logits[2], targets=made.targets, rows=np.arange(300))
    board = build(made.folder, study=made.study)
    assert {row.trial for row in board.rows if row.ci95 is None} == {0, 1, 2}
    assert [row.rank for row in board.rows] == [1, 2, 3, 4]
    assert "0, 1" in " ".join(board.notes)
    assert "not those of the score, trials 2" in " ".join(board.notes)


def test_other_images_are_not_compared(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=2)
    best = build(made.folder, study=made.study).rows[1].trial
    rows = np.arange(300) * 2
    np.savez(made.folder.trial(best).validation_logits, logits=made.logits[best], targets=made.targets, rows=rows)
    row = build(made.folder, study=made.study).rows[1]
    assert row.ci95 is not None
    assert (row.behind_best_ci95, row.tied_with_best) == (None, False)


def test_groups_of_the_manifest_are_one_unit(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=3, groups=True)
    board = build(made.folder, study=made.study)
    assert {row.ci_method for row in board.rows} == {"Wilson, effective number of groups"}


def test_exact_copies_are_one_unit(make_study: Callable[..., Any]) -> None:
    """Of every picture a second copy, which is right or wrong with it: half as many images say as much."""
    made = make_study(trials=1)
    alone = build(made.folder, study=made.study).rows[0]
    assert alone.ci95 is not None
    table = pd.read_parquet(made.folder.manifest)
    twice = pd.concat([table, table.assign(path=table["path"] + "~")], ignore_index=True)
    twice.to_parquet(made.folder.manifest)
    audit = json.loads(made.folder.audit.read_text("utf-8")) if made.folder.audit.exists() else {}
    copies = [[{"path": path, "kept": True}, {"path": path + "~", "kept": True}] for path in table["path"]]
    left_out = [{"path": "gone.png", "kept": False}, {"path": str(table["path"][0]), "kept": True}]
    audit["duplicates"] = [{"label": "", "across_splits": False, "copies": each} for each in (*copies, left_out)]
    made.folder.audit.write_text(json.dumps(audit), "utf-8")
    with np.load(made.folder.trial(0).validation_logits) as kept:
        doubled = {name: np.concatenate([kept[name], kept[name]]) for name in ("logits", "targets")}
        doubled["rows"] = np.concatenate([kept["rows"], kept["rows"] + len(table)])
    np.savez(made.folder.trial(0).validation_logits, **doubled)
    copied = build(made.folder, study=made.study).rows[0]
    assert copied.ci95 is not None
    assert copied.score == alone.score
    assert copied.ci95[1] - copied.ci95[0] == pytest.approx(alone.ci95[1] - alone.ci95[0], rel=0.1)


def test_commands_quote_the_folder(make_study: Callable[..., Any]) -> None:
    made = make_study("night; rm 'x'", trials=1)
    (row,) = build(made.folder, study=made.study).rows
    assert row.command.startswith("automl refit '/")
    assert row.command.endswith(" --trial 0")


def test_words() -> None:
    assert words.number("accuracy", 0.9834) == "98.3 %"
    assert words.number("log_loss", 0.21349) == "0.213"
    assert words.bounds("accuracy", (0.9, 1.0)) == "90.0 – 100.0 %"
    assert [words.duration(value) for value in (4.21, 59.6, 200, 7500, None)] == [
        *("4.2 s", "1 min", "3 min 20 s", "2 h 5 min", "–"),
    ]
    assert [words.integer(value) for value in (12, 3_400_000, 730.0)] == ["12", "3.4 M", "730"]
    assert words.describe({"augmentation": "none", "magnitude": 9, "freeze_depth": 1.0, "resolution": 224}) == [
        *("only the head trains", "224 px", "no augmentation"),
    ]


def test_a_resumed_trial_has_one_row_and_keeps_it_when_it_fails_on_the_way(tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize")

    def add(state: TrialState, values: list[float], **attrs: Any) -> None:
        value = values[-1] if state == TrialState.COMPLETE else None
        study.add_trial(
            create_trial(state=state, value=value, user_attrs=attrs, intermediate_values=dict(enumerate(values, 1)))
        )

    add(TrialState.PRUNED, [0.5], reason="paused")
    add(TrialState.PRUNED, [0.4], reason="paused")
    add(TrialState.COMPLETE, [0.5, 0.7], reason="complete", resumes=0, root=0)
    add(TrialState.FAIL, [0.4], reason="crashed", resumes=1, root=1)
    board = build(StudyFolder(tmp_path), study=study)
    assert [(row.trial, row.score) for row in board.rows] == [(2, 0.7), (1, 0.4)]


def test_a_damaged_package_is_told_and_not_taken_for_none(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=5)
    assert not any("cannot be read" in note for note in build(made.folder, study=made.study).notes)
    (made.folder.model / "metrics.json").write_text('{"trial": 1, "te')
    board = build(made.folder, study=made.study)
    assert board.refit is None
    (told,) = [note for note in board.notes if "cannot be read" in note]
    assert "automl refit" in told
