from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from automl.screening import knn_accuracy, linear_accuracy, probe


def blobs(
    count: int, *, apart: float, classes: int = 3, features: int = 8, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Gaussian clouds around centres that are `apart` standard deviations from the origin, each on its own axis."""
    random = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % classes
    return (random.normal(size=(count, features)) + apart * np.eye(features)[targets]).astype(np.float32), targets


@pytest.mark.parametrize("accuracy", [knn_accuracy, linear_accuracy])
def test_features_that_tell_classes_apart_score_one_and_others_about_chance(accuracy: object) -> None:
    assert accuracy(*blobs(90, apart=20), *blobs(60, apart=20, seed=1)) == 1.0  # type: ignore[operator]
    assert 0.15 < accuracy(*blobs(300, apart=0), *blobs(300, apart=0, seed=1)) < 0.5  # type: ignore[operator]


def test_neighbours_are_by_cosine() -> None:
    """Two directions at very different lengths: by Euclidean distance the long ones would be neighbours of none."""
    random = np.random.default_rng(0)
    targets = np.arange(60, dtype=np.int64) % 2
    directions = np.array([[1.0, 0.1], [0.1, 1.0]])[targets] + random.normal(size=(60, 2)) * 0.01
    lengths = 10 ** random.uniform(-3, 3, (60, 1))
    features = (directions * lengths).astype(np.float32)
    assert knn_accuracy(features[:40], targets[:40], features[40:], targets[40:]) == 1.0


def test_scales_of_features_do_not_matter_to_the_linear_probe() -> None:
    (train, targets), (test, test_targets) = blobs(90, apart=2), blobs(60, apart=2, seed=1)
    scales = np.float32(10.0) ** np.arange(-4, 4, dtype=np.float32)
    plain = linear_accuracy(train, targets, test, test_targets)
    assert linear_accuracy(train * scales, targets, test * scales, test_targets) == pytest.approx(plain, abs=0.02)
    assert 0.5 < plain < 1.0


def test_fewer_images_than_neighbours() -> None:
    train, targets = blobs(4, apart=20, classes=2)
    assert knn_accuracy(train, targets, train, targets) == 1.0


def test_no_more_images_are_used_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MAX_IMAGES", 30)
    train, targets = blobs(60, apart=20)
    wrong = targets.copy()
    wrong[30:] = (wrong[30:] + 1) % 3
    for accuracy in (knn_accuracy, linear_accuracy):
        assert accuracy(train, wrong, train, wrong) == 1.0


def test_features_that_are_constant_are_no_error() -> None:
    train, targets = blobs(30, apart=20)
    train[:, 0] = 5.0
    assert 0 <= linear_accuracy(train, targets, train, targets) <= 1
    assert 0 <= knn_accuracy(np.zeros_like(train), targets, train, targets) <= 1
