from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics as sk
from torch import nn

from automl.data import Batches
from automl.training import Normalise, measure, predict_logits, recalibrate
from tests.tiny import BFLOAT16, CHANNELS_LAST, FLOAT32, MEAN, STD, colours, tiny

torch.set_num_threads(1)

SAMPLES = {
    "all classes": lambda random: (random.normal(size=(200, 5)) * 2, random.integers(0, 5, 200)),
    "two absent from the targets": lambda random: (random.normal(size=(80, 5)), random.integers(1, 4, 80)),
    "one never predicted": lambda random: (random.normal(size=(80, 4)) - [0, 99, 0, 0], random.integers(0, 4, 80)),
    "one class only": lambda random: (random.normal(size=(20, 3)), np.zeros(20, dtype=np.int64)),
    "one image": lambda random: (random.normal(size=(1, 3)), np.array([2])),
    "certain": lambda random: (random.normal(size=(50, 3)) * 1000, random.integers(0, 3, 50)),
    "two classes": lambda random: (random.normal(size=(60, 2)), random.integers(0, 2, 60)),
}  # fmt: skip


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    logits, targets = SAMPLES[request.param](np.random.default_rng(0))
    return logits.astype(np.float32), targets.astype(np.int64)


def test_metrics_are_those_of_scikit_learn(sample: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> None:
    logits, targets = sample
    predicted, probabilities = logits.argmax(1), softmax(logits.astype(np.float64), axis=1)
    found = measure(logits, targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # predicted classes that are not among the targets
        expected = {
            "accuracy": sk.accuracy_score(targets, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted),
            "macro_precision": sk.precision_score(targets, predicted, average="macro", zero_division=0),
            "macro_recall": sk.recall_score(targets, predicted, average="macro", zero_division=0),
            "macro_f1": sk.f1_score(targets, predicted, average="macro", zero_division=0),
        }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    if np.abs(logits).max() < 100:  # scikit-learn clips probabilities
        assert found["log_loss"] == pytest.approx(
            sk.log_loss(targets, probabilities, labels=np.arange(logits.shape[1])), rel=1e-6
        )
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.values())


def test_auroc_is_that_of_scikit_learn_for_each_class_that_has_a_curve(
    sample: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]],
) -> None:
    logits, targets = sample
    probabilities, of_each = softmax(logits.astype(np.float64), axis=1), []
    for each in range(logits.shape[1]) if logits.shape[1] > 2 else [1]:
        if len(np.unique(targets == each)) == 2:
            of_each.append(sk.roc_auc_score(targets == each, probabilities[:, each]))
    found = measure(logits, targets)
    assert found.get("auroc") == (pytest.approx(np.mean(of_each), abs=1e-12) if of_each else None)
    if len(np.unique(targets)) == logits.shape[1] > 2:
        assert found["auroc"] == pytest.approx(sk.roc_auc_score(targets, probabilities, multi_class="ovr"), abs=1e-12)


def expected_calibration_error(probabilities: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> float:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    error = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def test_calibration_error_by_hand(sample: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]) -> None:
    logits, targets = sample
    expected = expected_calibration_error(softmax(logits.astype(np.float64), axis=1), targets)
    assert measure(logits, targets)["ece"] == pytest.approx(expected, abs=1e-6)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    logits = np.array([[1000.0, 0.0]], dtype=np.float32)
    assert measure(logits, np.array([1]))["log_loss"] == pytest.approx(1000.0)


def test_normalise_is_scale_then_standardise() -> None:
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    found = Normalise(mean, std)(images)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    embedding = torch.randn(4, 6)
    assert Normalise(mean, std)(embedding) is embedding


@pytest.mark.parametrize("precision", [FLOAT32, CHANNELS_LAST, BFLOAT16], ids=lambda each: each.name)
def test_logits_are_in_the_order_of_the_rows_whatever_the_batch(precision: object) -> None:
    array, targets = colours(20)
    rows = np.array([5, 3, 19, 0, 7, 7, 2])
    model, normalise = tiny("test_resnet"), Normalise(MEAN, STD)
    by_two, at_once = (
        predict_logits(
            model, Batches(array, targets, rows, batch_size=size), normalise=normalise, precision=precision  # type: ignore[arg-type]
        )
        for size in (2, 7)
    )  # fmt: skip
    assert not model.training
    assert (by_two.shape, by_two.dtype) == ((7, 3), np.float32)
    np.testing.assert_allclose(by_two, at_once, atol=0.05 if precision is BFLOAT16 else 1e-5)
    np.testing.assert_allclose(at_once[4], at_once[5], atol=1e-6)
    assert not np.allclose(at_once[0], at_once[1], atol=1e-6)


def norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: each for name, each in model.named_modules() if isinstance(each, nn.BatchNorm2d)}


def test_recalibration_gives_the_statistics_of_the_images_to_the_norms_that_train_and_to_no_others() -> None:
    array, targets = colours(12)
    model, normalise = tiny("test_resnet"), Normalise(MEAN, STD)
    layers = norms(model)
    trainable = set(list(layers)[2:])
    for layer in layers.values():
        nn.init.uniform_(layer.weight, 0.5, 1.5)
        layer.running_mean.fill_(7.0)  # type: ignore[union-attr]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda module, inputs, name=name: seen.__setitem__(name, inputs[0].clone()))
    recalibrate(
        model, trainable, Batches(array, targets, np.arange(12), batch_size=12), normalise=normalise, precision=FLOAT32
    )
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.rsplit(".", 1)[0] for key in changed} == trainable
    for name in trainable:
        activations = seen[name].transpose(0, 1).flatten(1)
        torch.testing.assert_close(layers[name].running_mean, activations.mean(1))
        torch.testing.assert_close(layers[name].running_var, activations.var(1, unbiased=True))
    assert all(layer.momentum == 0.1 and not layer.training for layer in layers.values())


def test_recalibration_averages_over_batches_with_equal_weight() -> None:
    array, targets = colours(12)
    model, normalise = tiny("test_resnet"), Normalise(MEAN, STD)
    name, layer = next(iter(norms(model).items()))
    means: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda module, inputs: means.append(inputs[0].mean((0, 2, 3))))
    recalibrate(
        model, {name}, Batches(array, targets, np.arange(12), batch_size=4), normalise=normalise, precision=FLOAT32
    )
    assert len(means) == 3
    torch.testing.assert_close(layer.running_mean, torch.stack(means).mean(0))


def test_recalibration_of_a_model_without_batch_norm_reads_no_image() -> None:
    array, targets = colours(4)
    model = tiny("test_vit")
    model.register_forward_pre_hook(lambda module, inputs: pytest.fail("a forward pass for nothing"))
    recalibrate(
        model,
        {name for name, _ in model.named_modules()},
        Batches(array, targets, np.arange(4), batch_size=4),
        normalise=Normalise(MEAN, STD),
        precision=FLOAT32,
    )
