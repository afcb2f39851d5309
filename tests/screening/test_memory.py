from __future__ import annotations

import pytest
import torch
from torch import nn

from automl.screening.memory import HEADROOM, available_mb, largest_batch, step_memory_mb
from tests.tiny import CPU

WIDTH = 2**18  # one float32 tensor of an image and this width is a megabyte


class Keeps(nn.Module):
    """A model whose backward pass needs one tensor of a megabyte for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * self.scale).sum()


def test_memory_is_linear_in_the_images_of_a_batch() -> None:
    model = Keeps()
    fixed, image = step_memory_mb(lambda count, update: model(torch.ones(count, WIDTH)).backward(), model, CPU)
    assert image == pytest.approx(1.0, abs=0.01)
    assert fixed == pytest.approx(1000.0 + 4.0, abs=0.1)  # the process; parameter, gradient, two moments


@pytest.mark.parametrize(("limit", "fits"), [(100.0, 0), (200.0, 8), (1000.0, 80)])
def test_what_fits(limit: float, fits: int) -> None:
    assert largest_batch(fixed_mb=100.0, image_mb=10.0, limit_mb=limit) == fits
    assert fits == 0 or 100 + 10 * fits <= HEADROOM * limit < 100 + 10 * (fits + 1)


def test_without_activations_only_the_rest_must_fit() -> None:
    assert largest_batch(fixed_mb=100.0, image_mb=0.0, limit_mb=50.0) == 0
    assert largest_batch(fixed_mb=100.0, image_mb=0.0, limit_mb=200.0) > 10**6


def test_there_is_memory_here() -> None:
    assert available_mb(CPU) > 100


def test_on_a_cpu_no_more_is_shared_than_is_free() -> None:
    """Four trials at once with a quarter each have no more than all of it: the kernel kills who takes more."""
    assert available_mb(CPU, 0.25) == pytest.approx(available_mb(CPU, 1.0), rel=0.1)
