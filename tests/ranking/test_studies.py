from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from automl.ranking.files import load_predictions
from automl.ranking.leaderboard import build
from automl.ranking.side_by_side import FORMATS
from automl.ranking.statistics import difference
from automl.ranking.studies import compare

SPACE = "backbones: [timm/test_resnet.r160_in1k]\nparams: {{freeze_depth: {depth}}}\nsearch: {{budget: 8h}}\n"


@pytest.fixture
def pair(make_study: Callable[..., Any]) -> tuple[Any, Any]:
    one, other = make_study("one"), make_study("other", trials=12)
    for made, depth in ((one, "[0.0, 1.0]"), (other, "1.0")):
        made.folder.resolved.write_text(SPACE.format(depth=depth))
    best = build(other.folder, study=other.study).rows[0].trial  # another winner than that of the first
    path = other.folder.trial(best).validation_logits
    logits = other.logits[best].copy()
    logits[:40] = logits[:40, ::-1]
    np.savez(path, logits=logits, targets=other.targets, rows=np.flatnonzero(np.arange(900) % 3 == 0))
    return one, other


def both(*made: Any) -> Any:
    return compare([(each.folder, each.study) for each in made])


def test_studies_of_the_same_data_are_compared_image_by_image(pair: tuple[Any, Any]) -> None:
    found = both(*pair)
    assert found.same_data is True
    assert "All are of the same data" in found.verdict
    (between,) = found.differences
    first, second = (
        load_predictions(each.folder.trial(build(each.folder, study=each.study).rows[0].trial)) for each in pair
    )
    assert first is not None
    assert second is not None
    assert between.value == (first.labels == first.targets).mean() - (second.labels == second.targets).mean()
    assert between.value > 0
    expected = difference("accuracy", first, second, seed=1)
    assert between.ci95 == pytest.approx((expected.low, expected.high), abs=0.02)


def test_summaries_are_those_of_the_leaderboards(pair: tuple[Any, Any]) -> None:
    for summary, made in zip(both(*pair).studies, pair, strict=True):
        board = build(made.folder, study=made.study)
        assert board.refit is not None
        assert summary.best == board.rows[0]
        assert summary.test == board.refit["test"]["accuracy"]
        assert sum(summary.counts.values()) == len(made.study.trials)
        assert summary.spent_seconds == sum(made.study.user_attrs["stage_seconds"].values())
        for backbone, score in summary.backbones.items():
            assert score == next(row.score for row in board.rows if row.backbone == backbone)


def test_spaces_that_differ_are_told(pair: tuple[Any, Any]) -> None:
    assert both(*pair).space == {"params.freeze_depth": ("0, 1", "1")}


def test_other_data_are_said_to_be_other_data(pair: tuple[Any, Any], make_study: Callable[..., Any]) -> None:
    third = make_study("third", trials=3)
    third.study.set_user_attr("dataset_fingerprint", "0" * 64)
    found = both(*pair, third)
    assert found.same_data is False
    assert "Of the same data are one and other." in found.verdict
    assert [(each.first, each.second) for each in found.differences] == [("one", "other")]


def test_the_same_data_on_other_validation_rows_are_not_paired(pair: tuple[Any, Any]) -> None:
    one, other = pair
    best = build(other.folder, study=other.study).rows[0].trial
    path = other.folder.trial(best).validation_logits
    np.savez(path, logits=other.logits[best], targets=other.targets, rows=np.arange(300))
    found = both(one, other)
    assert found.same_data is True
    assert found.differences == ()
    assert "No paired difference" in FORMATS["table"](found)


def test_a_study_that_does_not_say_which_data_is_not_trusted(make_study: Callable[..., Any]) -> None:
    one, other = make_study("one", trials=1), make_study("other", trials=1)
    for made in (one, other):
        made.study.set_user_attr("dataset_fingerprint", None)
    found = both(one, other)
    assert found.same_data is None
    assert found.differences == ()


def test_studies_of_one_name_are_told_by_their_folders(make_study: Callable[..., Any]) -> None:
    one, other, third = make_study("a/run"), make_study("b/run", trials=12), make_study("c")
    found = both(one, other, third)
    assert [each.study for each in found.studies] == [str(one.folder.root), str(other.folder.root), "c"]
    assert {(each.first, each.second) for each in found.differences} >= {(str(one.folder.root), str(other.folder.root))}


def test_before_the_first_trial(make_study: Callable[..., Any]) -> None:
    found = both(make_study("one", trials=0, finished=False), make_study("other", trials=0, finished=False))
    assert all(each.best is None for each in found.studies)
    for write in FORMATS.values():
        assert write(found)


def test_formats_say_the_same(pair: tuple[Any, Any]) -> None:
    found = both(*pair)
    content = json.loads(FORMATS["json"](found))
    assert content["schema_version"] == 1
    assert [each["best"]["score"] for each in content["studies"]] == [each.best.score for each in found.studies]
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](found))))
    assert [float(row["best_score"]) for row in rows] == [each.best.score for each in found.studies]
    assert [int(row["model_parameters"]) for row in rows] == [each.best.model_parameters for each in found.studies]
    assert [float(row["latency_ms"]) for row in rows] == [each.best.latency_ms for each in found.studies]
    assert [row["space_params.freeze_depth"] for row in rows] == ["0, 1", "1"]
    for style in ("table", "md"):
        text = FORMATS[style](found)
        assert "All are of the same data" in text
        assert "accuracy of the winner of one minus that of other, on the same 300 validation images: +" in text
        for each in found.studies:
            assert f"{100 * each.best.score:.1f} %" in text


def test_hostile_names_run_nothing_and_mark_nothing_up(make_study: Callable[..., Any]) -> None:
    found = both(make_study("=cmd()", trials=1), make_study("<script>x|y", trials=1))
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](found))))
    assert rows[0]["study"] == "'=cmd()"
    assert "<script>" not in FORMATS["md"](found)
    assert r"x\|y" in FORMATS["md"](found)
