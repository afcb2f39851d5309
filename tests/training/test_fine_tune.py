from __future__ import annotations

import contextlib
import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import nn

from automl import backbones
from automl.errors import UsageError
from automl.training import Epoch, Normalise, Outcome, recalibrate
from automl.training.fine_tune import _each, _last_in_time
from tests.tiny import BFLOAT16, CHANNELS_LAST, FLOAT32, MEAN, STD, colours, tiny, train

torch.set_num_threads(1)

ARRAY, TARGETS = colours()


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def different(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {key for key in one if not torch.equal(one[key], other[key])}


# --- what moves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("depth", [0.0, 0.5, 1.0])
def test_only_what_is_not_frozen_moves(architecture: str, depth: float) -> None:
    model = tiny(architecture, depth=depth)
    before = state(model)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen_norms = {
        f"{name}.{buffer}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and not any(p.requires_grad for p in module.parameters())
        for buffer, _ in module.named_buffers()
    }
    outcome = train(model, ARRAY, TARGETS, ema_decay=0.5, epochs=1)
    for moved in (different(before, state(model)), different(before, state(outcome.model))):
        assert trainable <= moved
        assert not moved & frozen_norms
        parameters = {name for name, _ in model.named_parameters()}
        assert moved & parameters == trainable
    if "resnet" in architecture and depth < 1:
        assert any("running_mean" in key for key in different(before, state(outcome.model)))
    if depth == 1.0:
        assert different(before, state(outcome.model)) == trainable


def test_it_learns_and_reports_what_it_learned() -> None:
    epochs: list[Epoch] = []
    outcome = train(tiny("test_resnet"), ARRAY, TARGETS, epochs=6, report=epochs.append)
    assert (outcome.reason, outcome.epochs) == ("complete", 6)
    assert not outcome.model.training
    assert [each.epoch for each in epochs] == [1, 2, 3, 4, 5, 6]
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert epochs[-1].metrics["accuracy"] == 1.0
    assert epochs[-1].logits.shape == (10, 3)
    assert epochs[-1].metrics["accuracy"] == accuracy_score(TARGETS[20:], epochs[-1].logits.argmax(1))
    with torch.inference_mode():
        again = outcome.model(Normalise(MEAN, STD)(torch.from_numpy(ARRAY[20:]).permute(0, 3, 1, 2)))
    np.testing.assert_allclose(again.numpy(), epochs[-1].logits, atol=1e-5)


def test_without_validation_rows_there_are_no_metrics() -> None:
    epochs: list[Epoch] = []
    train(tiny("test_vit"), ARRAY, TARGETS, epochs=1, validation_rows=np.arange(0), report=epochs.append)
    assert epochs[0].metrics == {}
    assert epochs[0].logits.shape == (0, 3)


def test_batch_norm_is_recalibrated_where_something_is_evaluated_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refit evaluates nothing between its epochs, and ends with the model of a run that does."""
    recalibrated: list[int] = []

    def counted(*given: Any, **options: Any) -> None:
        recalibrated.append(1)
        recalibrate(*given, **options)

    monkeypatch.setattr(importlib.import_module("automl.training.fine_tune"), "recalibrate", counted)
    ends = [train(tiny("test_resnet"), ARRAY, TARGETS, epochs=3, train_rows=np.arange(20), validation_rows=rows)
            for rows in (np.arange(20, 30), np.arange(0))]  # fmt: skip
    assert len(recalibrated) == 3 + 1
    assert not different(*(state(each.model) for each in ends))


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    arguments: dict[str, Any] = {"augmentation": "light", "mixup": 0.5, "epochs": 1}
    one = train(tiny("test_vit", dropout=0.3), ARRAY, TARGETS, **arguments)
    torch.rand(5), np.random.random(5)
    two = train(tiny("test_vit", dropout=0.3), ARRAY, TARGETS, **arguments)
    other = train(tiny("test_vit", dropout=0.3), ARRAY, TARGETS, **arguments, seed=4)
    assert not different(state(one.model), state(two.model))
    assert different(state(one.model), state(other.model))


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixup_and_cutmix_change_the_run_and_take_an_odd_number_of_images(mixing: dict[str, float]) -> None:
    rows = np.arange(19)
    plain = train(tiny("test_vit"), ARRAY, TARGETS, epochs=1, train_rows=rows)
    for balanced in (False, True):
        mixed = train(tiny("test_vit"), ARRAY, TARGETS, epochs=1, train_rows=rows, balanced=balanced, **mixing)
        assert mixed.reason == "complete"
        assert different(state(plain.model), state(mixed.model))


def test_autocast_and_channels_last_give_nearly_the_same_run() -> None:
    losses = {}
    for precision in (FLOAT32, CHANNELS_LAST, BFLOAT16):
        epochs: list[Epoch] = []
        train(tiny("test_resnet"), ARRAY, TARGETS, epochs=1, precision=precision, report=epochs.append)
        losses[precision] = epochs[0].train_loss
        assert epochs[0].logits.dtype == np.float32
    assert losses[CHANNELS_LAST] == pytest.approx(losses[FLOAT32], rel=1e-3)
    assert losses[BFLOAT16] == pytest.approx(losses[FLOAT32], rel=0.1)
    assert losses[BFLOAT16] != losses[FLOAT32]


# --- resuming -------------------------------------------------------------------------------------------------------


def history(checkpoint: Path | None, *, stop_after: int | None = None, seed: int = 0, **arguments: Any) -> Any:
    """Epochs by number and the outcome (None if interrupted) of a run with everything random switched on."""
    epochs: dict[int, Epoch] = {}

    def report(epoch: Epoch) -> None:
        epochs[epoch.epoch] = epoch
        if epoch.epoch == stop_after:
            raise KeyboardInterrupt

    model = tiny("test_efficientnet", depth=0.3, dropout=0.3, drop_path=0.2, seed=seed)
    torch.manual_seed(seed + 99)  # the state of another process
    np.random.seed(seed + 99)
    outcome = None
    arguments = {"augmentation": "light", "ema_decay": 0.9} | arguments
    with contextlib.suppress(KeyboardInterrupt):
        outcome = train(
            model, ARRAY, TARGETS, epochs=4, label_smoothing=0.1, learning_rate=3e-3,
            checkpoint=checkpoint, identity="a run", report=report, **arguments,
        )  # fmt: skip
    return epochs, outcome


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "adamw", "mixup": 0.4, "precision": CHANNELS_LAST, "layer_decay": 0.8},
        {"optimizer": "sgd", "cutmix": 1.0, "balanced": True},
        {"optimizer": "adamw", "augmentation": "trivial", "micro_batch": 3, "precision": BFLOAT16},
        {"optimizer": "sgd", "ema_decay": 0.0, "clip_grad": None, "precision": CHANNELS_LAST},
    ],
    ids=["adamw", "sgd", "micro-batches", "no average"],
)
@pytest.mark.parametrize("stop_after", [2, 4])
def test_a_resumed_run_ends_bit_for_bit_as_an_uninterrupted_one(
    tmp_path: Path, arguments: dict[str, Any], stop_after: int
) -> None:
    whole, expected = history(None, **arguments)
    assert expected.reason == "complete"
    path = tmp_path / "last.safetensors"
    _, nothing = history(path, stop_after=stop_after, **arguments)
    assert nothing is None
    resumed, outcome = history(path, seed=1, **arguments)
    assert min(resumed) == min(stop_after + 1, 4), "what was reported is on disk; the last epoch leaves no checkpoint"
    assert not different(state(expected.model), state(outcome.model))
    for number, epoch in resumed.items():
        assert epoch.train_loss == whole[number].train_loss
        assert epoch.learning_rate == whole[number].learning_rate
        assert epoch.metrics == whole[number].metrics
        np.testing.assert_array_equal(epoch.logits, whole[number].logits)


def test_training_may_compute_in_another_precision_than_evaluation() -> None:
    model, passes = tiny("test_resnet"), set[tuple[bool, bool]]()
    model.register_forward_pre_hook(
        lambda *_: passes.add((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))  # type: ignore[func-returns-value]
    )
    train(model, ARRAY, TARGETS, epochs=1, precision=BFLOAT16, training_precision=CHANNELS_LAST)
    assert passes == {(True, False), (False, True)}


def test_a_checkpoint_does_not_change_the_run(tmp_path: Path) -> None:
    _, without = history(None)
    _, with_one = history(tmp_path / "last.safetensors")
    assert not different(state(without.model), state(with_one.model))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    train(tiny("test_vit"), ARRAY, TARGETS, checkpoint=path, identity="one")
    with pytest.raises(UsageError, match="belongs to another configuration"):
        train(tiny("test_vit"), ARRAY, TARGETS, checkpoint=path, identity="other")


# --- gradient accumulation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro_batch", [1, 3, 8])
@pytest.mark.parametrize("arguments", [{}, {"balanced": True}, {"balanced": True, "mixup": 0.5}], ids=str)
def test_micro_batches_give_the_weights_of_the_whole_batch(micro_batch: int, arguments: dict[str, Any]) -> None:
    rows = np.array([row for row in range(30) if TARGETS[row] == 0 or row < 12])  # 18 images, 10 of one class
    shared = {"train_rows": rows, "epochs": 1, "optimizer": "sgd", "label_smoothing": 0.1, **arguments}
    whole = train(tiny("test_convnext"), ARRAY, TARGETS, **shared)
    parts = train(tiny("test_convnext"), ARRAY, TARGETS, micro_batch=micro_batch, **shared)
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=1e-4)


def test_a_batch_is_split_evenly() -> None:
    model = tiny("test_vit")
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None)
    train(model, ARRAY, TARGETS, epochs=1, batch_size=10, micro_batch=9)
    assert sizes == [5, 5, 5, 5], "and not 9 and 1, of which BatchNorm could take no variance"


# --- how a run ends -------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged() -> None:
    model = tiny("test_vit")
    epochs: list[Epoch] = []

    def poison(epoch: Epoch) -> None:
        epochs.append(epoch)
        with torch.no_grad():
            next(model.parameters()).fill_(math.nan)

    outcome = train(model, ARRAY, TARGETS, epochs=5, report=poison)
    assert (outcome.reason, outcome.epochs, len(epochs)) == ("diverged", 1, 1)
    assert all(torch.isfinite(value).all() for value in outcome.model.state_dict().values()), "the last good one"


def test_a_loss_that_is_not_finite_is_noticed_within_the_epoch() -> None:
    model = tiny("test_vit")
    steps: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: steps.append(1))
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    rows = np.tile(np.arange(20), 40)
    outcome = train(model, ARRAY, TARGETS, epochs=1, train_rows=rows)
    assert outcome.reason == "diverged"
    assert len(steps) == 50


def test_logits_that_are_not_finite_end_the_run_as_diverged() -> None:
    model = tiny("test_vit")
    model.register_forward_hook(lambda module, inputs, output: output if module.training else output * math.inf)
    epochs: list[Epoch] = []
    outcome = train(model, ARRAY, TARGETS, report=epochs.append)
    assert (outcome.reason, outcome.epochs, epochs) == ("diverged", 0, [])


class Clock:
    """A clock that moves by a second each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("data", ["pixels", "embeddings"])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_time_limit_ends_the_run_as_truncated_with_its_last_whole_epoch(data: str, ema_decay: float) -> None:
    epochs: list[Epoch] = []
    if data == "pixels":
        model, array = tiny("test_resnet"), ARRAY
    else:
        model, array = nn.Linear(5, 3), np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    outcome = train(
        model, array, TARGETS, epochs=100, time_limit=20.0, clock=Clock(), report=epochs.append, ema_decay=ema_decay
    )
    assert outcome.reason == "truncated"
    assert 0 < outcome.epochs == len(epochs) < 10
    assert outcome.seconds == epochs[-1].seconds > 0
    batch = torch.from_numpy(array[20:])
    batch = Normalise(MEAN, STD)(batch.permute(0, 3, 1, 2) if batch.ndim == 4 else batch)
    assert not outcome.model.training
    with torch.inference_mode():
        np.testing.assert_allclose(outcome.model(batch).numpy(), epochs[-1].logits, atol=1e-5)


def test_a_time_limit_right_after_resuming_hands_over_the_last_whole_epoch(tmp_path: Path) -> None:
    epochs: list[Epoch] = []
    path = tmp_path / "last.safetensors"
    train(tiny("test_resnet"), ARRAY, TARGETS, epochs=2, ema_decay=0.9, checkpoint=path, report=epochs.append)
    outcome = train(tiny("test_resnet", seed=5), ARRAY, TARGETS, epochs=2, ema_decay=0.9, checkpoint=path, time_limit=0)
    assert (outcome.reason, outcome.epochs) == ("truncated", 1)
    with torch.inference_mode():
        logits = outcome.model(Normalise(MEAN, STD)(torch.from_numpy(ARRAY[20:]).permute(0, 3, 1, 2)))
    np.testing.assert_allclose(logits.numpy(), epochs[0].logits, atol=1e-5)


# --- a head on embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_on_embeddings_is_the_head_trained_through_the_frozen_backbone(architecture: str, head: str) -> None:
    shared: dict[str, Any] = {
        "epochs": 3,
        "optimizer": "sgd",
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "ema_decay": 0.5,
        "balanced": True,
    }
    through, alone = (tiny(architecture, depth=1.0, head=head, dropout=0.2) for _ in range(2))
    normalise = Normalise(MEAN, STD)
    with torch.no_grad():
        embedding = backbones.features(alone.eval(), normalise(torch.from_numpy(ARRAY).permute(0, 3, 1, 2))).numpy()
    one, other = {}, {}
    whole = train(through, ARRAY, TARGETS, report=lambda each: one.update({each.epoch: each}), **shared)
    part = train(
        backbones.head_of(alone), embedding, TARGETS, augmentation="light",  # pixels' policies do not apply
        report=lambda each: other.update({each.epoch: each}), **shared,
    )  # fmt: skip
    for name, value in backbones.head_of(whole.model).state_dict().items():
        torch.testing.assert_close(part.model.state_dict()[name], value, atol=1e-5, rtol=1e-4)
    for number in one:
        np.testing.assert_allclose(one[number].logits, other[number].logits, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("augmentation", ["none", "light", "affine", "trivial", "rand", "augmix", "three"])
def test_a_run_on_a_gpu(augmentation: str, tmp_path: Path) -> None:
    outcome: Outcome = train(
        tiny("test_resnet"), ARRAY, TARGETS, device=torch.device("cuda"), precision=BFLOAT16, augmentation=augmentation,
        mixup=0.2, ema_decay=0.9, balanced=True, checkpoint=tmp_path / "last.safetensors",
    )  # fmt: skip
    assert outcome.reason == "complete"
    assert next(outcome.model.parameters()).is_cuda


@pytest.mark.parametrize(
    ("done", "left", "expected"),
    [(1, math.inf, 4), (1, 31.0, 4), (1, 30.0, 3), (1, 21.0, 3), (1, 10.0, 1), (1, -5.0, 1), (3, 5.0, 3)],
)
def test_the_last_epoch_is_the_last_for_which_there_is_time(done: int, left: float, expected: int) -> None:
    """Of four epochs of 10 s each, with a margin of 3 %."""
    assert _last_in_time(done, 4, left, 10.0) == expected


@pytest.mark.parametrize(
    ("took", "expected"), [([9.0], 9.0), ([30.0, 3.0], 3.0), ([30.0, 3.0, 5.0], 4.0), ([4.0, 3.0, 5.0], 4.0)]
)
def test_a_first_epoch_that_was_slow_says_little_of_the_next(took: list[float], expected: float) -> None:
    assert _each(took) == expected


def test_a_resumed_run_is_scheduled_for_the_time_that_is_left(tmp_path: Path) -> None:
    path, epochs = tmp_path / "last.safetensors", list[Epoch]()

    def stop(epoch: Epoch) -> None:
        epochs.append(epoch)
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny("test_resnet"), ARRAY, TARGETS, epochs=8, checkpoint=path, report=stop, clock=Clock())
    assert [each.last for each in epochs] == [8, 8]
    each = epochs[-1].seconds / 2
    outcome = train(tiny("test_resnet"), ARRAY, TARGETS, epochs=8, checkpoint=path, report=epochs.append,
                    time_limit=2.5 * each, clock=Clock())  # fmt: skip
    assert outcome.reason == "truncated"
    assert epochs[2].last == 4
    assert epochs[2].learning_rate < epochs[1].learning_rate
