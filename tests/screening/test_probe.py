from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from automl.screening import knn_probe, linear_probe, probe, probe_of

Out = Callable[..., npt.NDArray[np.bool_]]
BOTH = pytest.mark.parametrize("right_of", [knn_probe, linear_probe])


def blobs(
    count: int, *, apart: float, classes: int = 3, features: int = 8, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Gaussian clouds around centres that are `apart` standard deviations from the origin, each on its own axis."""
    random = np.random.default_rng(seed)
    targets = np.arange(count, dtype=np.int64) % classes
    return (random.normal(size=(count, features)) + apart * np.eye(features)[targets]).astype(np.float32), targets


@BOTH
def test_features_that_tell_classes_apart_score_one_and_others_about_chance(right_of: Out) -> None:
    assert right_of(*blobs(150, apart=20)).all()
    assert 0.2 < right_of(*blobs(600, apart=0)).mean() < 0.47


@BOTH
def test_an_image_is_judged_without_itself(right_of: Out) -> None:
    """Random targets: a probe that has seen the image it judges recalls them."""
    features, _ = blobs(200, apart=0, features=400)
    targets = np.random.default_rng(1).integers(0, 2, 200)
    assert 0.35 < right_of(features, targets).mean() < 0.65


@BOTH
def test_an_image_is_judged_without_its_group(right_of: Out) -> None:
    """Every image is there four times, with random targets: only what keeps copies together cannot recall them."""
    random = np.random.default_rng(2)
    features = np.repeat(random.normal(size=(60, 200)), 4, axis=0).astype(np.float32)
    targets, copies = np.repeat(random.integers(0, 2, 60), 4), np.repeat(np.arange(60), 4)
    assert right_of(features, targets).mean() > 0.9
    assert right_of(features, targets, copies).mean() < 0.7


@BOTH
def test_a_fold_may_leave_few_images(right_of: Out) -> None:
    """Of two groups the smaller one is what the judge of the larger one learns from."""
    features, targets = blobs(69, apart=20)
    assert right_of(features, targets, np.repeat([0, 1], [60, 9])).mean() > 0.8
    assert right_of(features[:5], targets[:5], np.repeat([0, 1], [4, 1])).shape == (5,)


def test_neighbours_are_by_cosine() -> None:
    """Two directions at very different lengths: by Euclidean distance the long ones would be neighbours of none."""
    random = np.random.default_rng(0)
    targets = np.arange(60, dtype=np.int64) % 2
    directions = np.array([[1.0, 0.1], [0.1, 1.0]])[targets] + random.normal(size=(60, 2)) * 0.01
    lengths = 10 ** random.uniform(-3, 3, (60, 1))
    assert knn_probe((directions * lengths).astype(np.float32), targets).all()


def test_scales_of_features_do_not_matter_to_the_linear_probe() -> None:
    features, targets = blobs(150, apart=2)
    scales = np.float32(10.0) ** np.arange(-4, 4, dtype=np.float32)
    np.testing.assert_array_equal(linear_probe(features * scales, targets), linear_probe(features, targets))
    assert 0.5 < linear_probe(features, targets).mean() < 1.0


@BOTH
def test_classes_of_few_images(right_of: Out) -> None:
    features, targets = blobs(7, apart=20, classes=3)  # 3, 2 and 2 images
    assert right_of(features, targets).shape == (7,)
    alone, single = blobs(31, apart=20, classes=3)
    single[-1] = 3  # a class of one image is never learned when it is judged
    found = right_of(alone, single)
    assert found[:-1].all()
    assert not found[-1]
    assert not right_of(features[:1], targets[:1]).any()
    assert not right_of(*blobs(3, apart=20, classes=3)).any()
    assert not right_of(features, targets, np.zeros(7, np.int64)).any()  # all in one group


@BOTH
def test_no_more_images_are_used_than_stated(right_of: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MAX_IMAGES", 30)
    assert right_of(*blobs(300, apart=20)).shape == (30,)


@BOTH
def test_features_that_are_constant_are_no_error(right_of: Out) -> None:
    features, targets = blobs(30, apart=20)
    features[:, 0] = 5.0
    assert right_of(features, targets).shape == (30,)
    assert right_of(np.zeros_like(features), targets).mean() <= 0.5


@pytest.mark.parametrize(("right", "low", "high"), [(0, 0.0, 0.278), (5, 0.237, 0.763), (10, 0.722, 1.0)])
def test_intervals_are_wilsons(right: int, low: float, high: float) -> None:
    """Known values of the Wilson score interval for 10 trials (Wilson 1927; without continuity correction)."""
    found = probe_of(np.arange(10) < right)
    assert (found.accuracy, found.images) == (right / 10, 10)
    assert found.ci95 == pytest.approx((low, high), abs=1e-3)
