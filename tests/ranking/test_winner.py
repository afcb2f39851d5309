from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from automl.ranking.embedding_map import Embedding, embedding_map
from automl.ranking.leaderboard import build
from automl.ranking.reliability import calibration_error, reliability
from automl.ranking.statistics import Predictions, wilson
from automl.ranking.suspects import find_suspects
from automl.ranking.winner import winner
from tests.ranking.conftest import features
from tests.ranking.study import HOSTILE


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    rng = np.random.default_rng(0)
    targets = rng.integers(4, size=500)
    logits = rng.normal(size=(500, 4)) * 1.5
    logits[np.arange(500), targets] += 1.2
    return Predictions(logits, targets, np.arange(500))


def test_reliability_is_scikit_learns_calibration_curve(predictions: Predictions) -> None:
    bins = reliability(predictions)
    right = predictions.labels == predictions.targets
    share, confidence = calibration_curve(right, predictions.confidence, n_bins=15)
    assert [each.accuracy for each in bins] == pytest.approx(share, abs=1e-9)
    assert [each.confidence for each in bins] == pytest.approx(confidence, abs=1e-9)
    assert sum(each.images for each in bins) == 500
    assert all(each.low < each.confidence <= each.high for each in bins)
    assert all(each.accuracy95 == wilson(each.accuracy * each.images, each.images) for each in bins)


def test_images_of_a_group_count_as_few_in_a_bin(predictions: Predictions) -> None:
    alone = reliability(predictions)
    copies = np.tile(np.arange(500), 4)  # every image four times: no more is known than before
    grouped = Predictions(predictions.logits[copies], predictions.targets[copies], np.arange(2000), copies)
    widest, same = (max(each, key=lambda bin: bin.images) for each in (reliability(grouped), alone))
    assert widest.images == 4 * same.images
    assert np.diff(widest.accuracy95)[0] == pytest.approx(np.diff(same.accuracy95)[0], rel=0.1)


def test_calibration_error_is_that_of_the_training(predictions: Predictions) -> None:
    probabilities = torch.softmax(torch.from_numpy(predictions.logits), dim=1)
    expected = multiclass_calibration_error(probabilities, torch.from_numpy(predictions.targets), 4, n_bins=15)
    assert calibration_error(reliability(predictions)) == pytest.approx(float(expected), abs=1e-6)


def test_the_winner_has_its_surest_mistakes_first(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    paths = [f"/data/{i}.png" for i in range(900)]
    found = winner(textile.folder, textile.study, board, paths)
    assert found is not None
    logits = textile.logits[found.trial].astype(np.float64)
    wrong = np.flatnonzero(logits.argmax(1) != textile.targets)
    assert found.mistaken == len(wrong)
    assert {each.row for each in found.mistakes} == set((3 * wrong).tolist())
    sure = [each.confidence for each in found.mistakes]
    assert sure == sorted(sure, reverse=True)
    for each in found.mistakes:
        i = each.row // 3
        probabilities = np.exp(logits[i]) / np.exp(logits[i]).sum()
        assert each.confidence == pytest.approx(probabilities.max())
        assert (each.label, each.predicted) == (HOSTILE[textile.targets[i]], HOSTILE[logits[i].argmax()])
        assert each.path == f"/data/{each.row}.png"


def test_the_recall_of_a_class_is_as_sure_as_its_groups_are_many(make_study: Callable[..., Any]) -> None:
    found = []
    for groups in (False, True):
        made = make_study(f"groups {groups}", trials=3, groups=groups)
        best = winner(made.folder, made.study, build(made.folder, study=made.study), [])
        assert best is not None
        found.append({each.label: each for each in best.confusions[-1].per_class})
    alone, together = found
    for label, row in alone.items():
        assert row.recall95 == pytest.approx(wilson(round(row.recall * row.support), row.support))
        limits = together[label].recall95
        assert limits is not None
        assert row.recall95 is not None
        assert limits[1] - limits[0] > row.recall95[1] - row.recall95[0]


def test_swapped_labels_are_suspected_and_others_are_not(textile: Any) -> None:
    embedding = features(textile.folder)
    odd = set(embedding.rows[::150].tolist())
    targets = _targets(textile, embedding)
    found = find_suspects(embedding, targets, None, ["p"] * 900, ["train"] * 900, list(HOSTILE), seed=0)
    assert found is not None
    assert {each.row for each in found.listed} >= odd
    assert {each.row for each in found.listed[: len(odd)]} == odd
    assert found.images == len(embedding.rows)
    assert found.found == len(found.listed) < 15
    assert found.accuracy > 0.95
    for each in found.listed[: len(odd)]:
        assert each.label == HOSTILE[targets[each.row]]
        assert each.suggested == HOSTILE[(targets[each.row] + 1) % 4]
        assert each.label_probability < each.suggested_probability


def test_an_image_is_not_vouched_for_by_its_own_group(textile: Any) -> None:
    """Copies of one picture under one wrong label would agree with each other in another fold."""
    rng = np.random.default_rng(1)
    targets = rng.integers(2, size=200)
    centres, mark = rng.normal(size=(2, 64)), 3 * rng.normal(size=64)
    vectors = centres[targets] + rng.normal(size=(200, 64))
    groups = np.arange(200)
    copies = np.flatnonzero(targets == 0)[:12]
    groups[copies] = groups[copies[0]]
    vectors[copies] = centres[1] + mark  # an odd picture of what looks like class 1
    embedding = Embedding("b", 32, vectors.astype(np.float32), np.arange(200))
    arguments = (["p"] * 200, ["train"] * 200, ["zero", "one"])
    together = find_suspects(embedding, targets, groups, *arguments, seed=0)
    alone = find_suspects(embedding, targets, None, *arguments, seed=0)
    assert together is not None
    assert alone is not None
    assert set(copies.tolist()) <= {each.row for each in together.listed}
    assert not set(copies.tolist()) & {each.row for each in alone.listed}


def test_too_few_images_of_a_class_are_not_judged() -> None:
    targets = np.array([0] * 30 + [1] * 4)
    embedding = Embedding("b", 32, np.random.default_rng(0).normal(size=(34, 5)), np.arange(34))
    assert find_suspects(embedding, targets, None, ["p"] * 34, ["train"] * 34, ["a", "b"]) is None


def test_a_class_of_few_images_is_left_out_and_the_others_are_judged(textile: Any) -> None:
    whole = features(textile.folder)
    targets = _targets(textile, whole).copy()
    few = np.flatnonzero(targets[whole.rows] == 3)[:4]
    kept = np.sort(np.concatenate([few, np.flatnonzero(targets[whole.rows] != 3)]))
    embedding = Embedding(whole.backbone, whole.resolution, whole.vectors[kept], whole.rows[kept])
    wrong = int(embedding.rows[np.flatnonzero(targets[embedding.rows] == 0)[0]])
    targets[wrong] = 1
    found = find_suspects(embedding, targets, None, ["p"] * 900, ["train"] * 900, list(HOSTILE), seed=0)
    assert found is not None
    assert found.images == len(kept) - 4
    assert found.listed[0].row == wrong
    assert f"Classes of fewer than 5 images are left out: {HOSTILE[3]}." in found.note


def test_the_map_keeps_classes_together_and_marks_mistakes(textile: Any) -> None:
    embedding = features(textile.folder)
    targets = _targets(textile, embedding)
    predicted = dict.fromkeys(range(0, 900, 3), 0)
    found = embedding_map(embedding, targets, predicted, seed=0)
    assert found is not None
    points, classes = np.stack([found.x, found.y], axis=1), np.array(found.targets)
    assert found.rows == tuple(embedding.rows.tolist())
    nearest = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(nearest, np.inf)
    assert (classes[nearest.argmin(axis=1)] == classes).mean() > 0.9
    for row, mistaken in zip(found.rows, found.mistaken, strict=True):
        assert mistaken == (None if row % 3 else bool(targets[row] != 0))
    assert embedding_map(embedding, targets, predicted, seed=0) == found


def test_of_many_images_the_mistakes_are_shown_first(textile: Any) -> None:
    embedding = features(textile.folder)
    targets = _targets(textile, embedding)
    predicted = {row: int(targets[row]) for row in range(0, 900, 3)}
    wrong = [0, 30, 60]
    predicted |= {row: (predicted[row] + 1) % 4 for row in wrong}
    found = embedding_map(embedding, targets, predicted, most=50)
    assert found is not None
    assert len(found.rows) == 50
    assert found.images == len(embedding.rows)
    assert [row for row, each in zip(found.rows, found.mistaken, strict=True) if each] == wrong
    assert all(row % 3 == 0 for row in found.rows)


def _targets(textile: Any, embedding: Embedding) -> np.ndarray:
    import pandas as pd

    return pd.read_parquet(textile.folder.manifest)["target"].to_numpy(np.int64)
