from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.proxies.trainability import Look, look
from tests.tiny import CPU, FLOAT32, MEAN, STD, colours, tiny

ARRAY, TARGETS = colours(120)


def take(model: torch.nn.Module, targets: Any = TARGETS, **arguments: Any) -> Look:
    defaults: dict[str, Any] = {"images": 30, "passes": 6, "batch_size": 10, "learning_rate": 1e-2}
    return look(
        model, ARRAY, targets, np.arange(len(ARRAY)), classes=3, mean=MEAN, std=STD, device=CPU, precision=FLOAT32,
        layer_decay=1.0, weight_decay=0.05, **{**defaults, **arguments},
    )  # fmt: skip


def test_what_can_be_learned_is_and_what_cannot_is_not() -> None:
    learned = take(tiny("test_efficientnet"))
    assert learned.right.shape == (30,)
    assert learned.right.mean() > 0.8
    assert learned.log_loss < np.log(3) / 2
    shuffled = take(tiny("test_efficientnet"), targets=np.random.default_rng(0).permutation(TARGETS))
    assert shuffled.right.mean() < 0.65


def test_everything_moves_even_where_it_was_frozen_before() -> None:
    model = tiny("test_resnet", depth=1.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    take(model)
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("passes", [1, 3])
def test_the_cost_is_fixed_whatever_the_data(passes: int) -> None:
    steps = 0

    def count(module: Any, inputs: Any) -> None:
        nonlocal steps
        steps += module.training and len(inputs[0])

    model = tiny("test_vit")
    model.register_forward_pre_hook(count)
    take(model, passes=passes)
    assert steps == 30 * passes


def test_held_out_images_are_not_trained_on() -> None:
    """Both halves hold every class in proportion; what is painted over in one half leaves the other as it was."""
    few = take(tiny("test_efficientnet"), images=200)
    assert few.right.shape == (60,)  # half of what there is


def test_a_look_that_diverges_is_an_even_guess() -> None:
    found = take(tiny("test_resnet"), learning_rate=1e30)
    assert (found.log_loss, found.right.any()) == (pytest.approx(np.log(3)), False)
