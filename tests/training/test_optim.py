from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import nn

from automl import backbones
from automl.training.optim import Loss, class_weights, learning_rate_factor, make_optimizer
from tests.tiny import tiny

torch.set_num_threads(1)

LOGITS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
WEIGHTS = torch.tensor([0.5, 1.0, 1.5, 3.0])


def test_the_learning_rate_rises_in_a_line_and_falls_as_half_a_cosine_to_zero() -> None:
    factors = [learning_rate_factor(step, warmup_steps=10, total_steps=100) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1.0 == max(factors)
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0, abs=1e-12)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[99] < 1e-3, "the last step still moves the weights"


def test_the_learning_rate_without_warm_up_and_with_a_fraction_of_a_step() -> None:
    assert learning_rate_factor(0, warmup_steps=0, total_steps=1) == 1.0
    assert learning_rate_factor(2, warmup_steps=2.5, total_steps=10) == pytest.approx(3 / 3.5)
    assert learning_rate_factor(3, warmup_steps=2.5, total_steps=10) < 1.0


@pytest.mark.parametrize("present", [[0, 1, 2, 3], [0, 2, 3]])
def test_class_weights_are_those_of_scikit_learn(present: list[int]) -> None:
    targets = np.repeat(present, np.arange(1, len(present) + 1) * 7)
    found = class_weights(targets, 4)
    expected = compute_class_weight("balanced", classes=np.array(present), y=targets)
    np.testing.assert_allclose(found[present].numpy() * 4 / len(present), expected, rtol=1e-6)
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_the_loss_of_a_batch_is_the_mean_of_torch(weights: torch.Tensor | None, label_smoothing: float) -> None:
    loss = Loss(label_smoothing=label_smoothing, weights=weights)
    expected = nn.CrossEntropyLoss(weights, label_smoothing=label_smoothing)(LOGITS, TARGETS)
    torch.testing.assert_close(loss(LOGITS, TARGETS) / loss.total(TARGETS), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("soft", [False, True])
def test_the_losses_of_parts_add_up_to_the_loss_of_the_batch(weights: torch.Tensor | None, soft: bool) -> None:
    loss = Loss(label_smoothing=0.1, weights=weights)
    targets = LOGITS.flip(0).softmax(1) if soft else TARGETS
    whole = loss(LOGITS, targets) / loss.total(targets)
    parts = [loss(one, other) for one, other in zip(LOGITS.split(5), targets.split(5), strict=True)]
    torch.testing.assert_close(sum(parts) / loss.total(targets), whole)


def test_the_soft_targets_of_mixup_are_not_smoothed_again() -> None:
    np.random.seed(0)
    _, soft = Mixup(1.0, 0.0, label_smoothing=0.1, num_classes=4)(torch.zeros(12, 3, 8, 8), TARGETS)
    loss = Loss(label_smoothing=0.1)
    torch.testing.assert_close(loss(LOGITS, soft) / loss.total(soft), SoftTargetCrossEntropy()(LOGITS, soft))


def test_the_weights_move_with_the_loss_and_are_no_parameters() -> None:
    loss = Loss(weights=WEIGHTS).to(torch.float64)
    assert loss.weights is not None
    assert loss.weights.dtype == torch.float64
    assert list(loss.parameters()) == []


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit"])
def test_layer_decay_lowers_the_rate_block_by_block(architecture: str) -> None:
    model = tiny(architecture)
    groups = backbones.parameter_groups(model, learning_rate=0.1, weight_decay=0.05, layer_decay=0.5)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    named = dict(model.named_parameters())
    blocks = backbones.layer_groups(model)
    for number, names in enumerate(blocks):
        expected = 0.1 * 0.5 ** (len(blocks) - number)
        assert [rates[id(named[name])] for name in names] == pytest.approx([expected] * len(names))
    assert {rates[id(each)] for each in backbones.head_of(model).parameters()} == {0.1}
    optimizer = make_optimizer("adamw", groups)
    assert [group["lr"] for group in optimizer.param_groups] == [group["lr"] for group in groups]
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}


def test_optimizers_by_name() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr": 0.1, "weight_decay": 0.01}]
    assert isinstance(make_optimizer("adamw", [dict(each) for each in groups]), torch.optim.AdamW)
    sgd = make_optimizer("sgd", [dict(each) for each in groups])
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["nesterov"]) == (0.9, True)
    with pytest.raises(ValueError, match='unknown optimizer "adam": expected adamw or sgd'):
        make_optimizer("adam", [dict(each) for each in groups])


def test_a_factor_is_a_number_at_every_step() -> None:
    for total in (1, 2, 7):
        for warmup in (0.0, 0.5, 1.0, 3.5):
            for step in range(total):
                assert 0 < learning_rate_factor(step, warmup_steps=min(warmup, total / 2), total_steps=total) <= 1
    assert not math.isnan(learning_rate_factor(5, warmup_steps=5, total_steps=5))
