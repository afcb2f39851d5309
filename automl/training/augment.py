"""Augmentation policies by name. A policy maps a batch of training images to a batch of the same shape.

    none      nothing
    light     random crop out of a border mirrored by 1/14 of the side, horizontal flip; keeps every pixel's scale
    affine    rotation up to 20°, shift and zoom up to 0.2, shear up to 0.2, horizontal flip, borders repeated
    trivial   TrivialAugment: one random operation at a random strength (arXiv 2103.10158)
    rand      RandAugment: two random operations at strength `magnitude` of 30 (arXiv 1909.13719)
    augmix    AugMix: a mixture of short chains of operations (arXiv 1912.02781)
    three     3-Augment: grayscale, solarize or blur, then colour jitter and flip (arXiv 2204.07118)

Randomness is torch's global generator, which `fine_tune` seeds per epoch. Geometry is one batched sampling
(every image its own matrix), on the device where the images are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import InterpolationMode, v2

from automl.config import AUGMENTATIONS

__all__ = ["Policy", "contact_sheet", "make_policy"]

Policy = Callable[[Tensor], Tensor]


def make_policy(name: str, magnitude: int = 9) -> Policy:
    """Return the policy `name`: ``(B, 3, H, W) uint8`` → ``(B, 3, H, W) uint8``.

    Raises:
        ValueError: There is no such policy.
    """
    bilinear = InterpolationMode.BILINEAR
    policies: dict[str, Callable[[], Policy]] = {
        "none": lambda: lambda images: images,
        "light": lambda: _light,
        "affine": lambda: _affine,
        "trivial": lambda: _each(v2.TrivialAugmentWide(interpolation=bilinear), flip=True),
        "rand": lambda: _each(v2.RandAugment(magnitude=magnitude, interpolation=bilinear), flip=True),
        "augmix": lambda: _each(v2.AugMix(interpolation=bilinear), flip=True),
        "three": lambda: _each(_three(), flip=True),
    }
    if name not in policies:
        raise ValueError(f'unknown augmentation policy "{name}": expected one of {", ".join(AUGMENTATIONS)}')
    return policies[name]()


def contact_sheet(name: str, images: Tensor, *, copies: int = 6, magnitude: int = 9, seed: int = 0) -> Tensor:
    """Draw `name` on ``(B, 3, H, W) uint8``: one row an image, the original first. Returns ``(3, rows, columns)``."""
    policy = make_policy(name, magnitude)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        columns = [images, *(policy(images) for _ in range(copies))]
    return torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2)


def _light(images: Tensor) -> Tensor:
    """Shift by up to a fourteenth of the side, into a mirrored border, and flip: no pixel is interpolated."""
    count, _, height, width = images.shape
    rows = _shifted(count, height)
    columns = _shifted(count, width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    image = torch.arange(count)[:, None, None]
    picked = (image, rows[:, :, None], columns[:, None, :])
    return images.permute(0, 2, 3, 1)[tuple(index.to(images.device) for index in picked)].permute(0, 3, 1, 2)


def _shifted(count: int, side: int) -> Tensor:
    """Draw ``(count, side)`` source positions: all of them moved by one shift, mirrored at the border."""
    margin = side // 14
    position = torch.arange(side) + torch.randint(-margin, margin + 1, (count, 1))
    return side - 1 - (side - 1 - position.abs()).abs()


def _affine(images: Tensor) -> Tensor:
    return _sample(images, _affine_matrices(len(images)))


def _affine_matrices(count: int) -> Tensor:
    """Draw ``(count, 2, 3)`` matrices from output to input, in the grid's -1 … 1."""
    angle = torch.empty(count).uniform_(-20, 20).deg2rad()
    shear = torch.empty(count).uniform_(-0.2, 0.2)
    zoom_x, zoom_y = torch.empty(2, count).uniform_(0.8, 1.2)
    matrix = torch.empty(count, 2, 3)
    matrix[:, 0, 0] = zoom_x * torch.cos(angle)
    matrix[:, 0, 1] = -zoom_y * torch.sin(angle + shear)
    matrix[:, 1, 0] = zoom_x * torch.sin(angle)
    matrix[:, 1, 1] = zoom_y * torch.cos(angle + shear)
    matrix[:, :, 0] *= _signs(count)[:, None]
    matrix[:, :, 2] = torch.empty(count, 2).uniform_(-0.4, 0.4)  # 0.2 of the side, which is 2 long
    return matrix


def _sample(images: Tensor, matrix: Tensor) -> Tensor:
    """Resample ``(B, 3, H, W) uint8`` at output → input matrices ``(B, 2, 3)``, repeating the border."""
    grid = functional.affine_grid(matrix.to(images.device), list(images.shape), align_corners=False)
    sampled = functional.grid_sample(
        images.to(torch.float32), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.round_().clamp_(0, 255).to(torch.uint8)


def _signs(count: int) -> Tensor:
    return torch.where(torch.rand(count) < 0.5, -1.0, 1.0)


def _three() -> v2.Transform:
    recolour = v2.RandomChoice(
        [v2.RandomGrayscale(p=1.0), v2.RandomSolarize(128, p=1.0), v2.GaussianBlur(9, (0.1, 2.0))]
    )
    return v2.Compose([recolour, v2.ColorJitter(0.3, 0.3, 0.3)])


def _each(transform: v2.Transform, *, flip: bool) -> Policy:
    """Apply a torchvision transform to every image by itself: v2 draws one set of parameters per call."""

    def policy(images: Tensor) -> Tensor:
        drawn: list[Tensor] = [transform(image) for image in images]
        if flip:
            mirrored = torch.rand(len(images)) < 0.5
            drawn = [image.flip(-1) if turn else image for image, turn in zip(drawn, mirrored.tolist(), strict=True)]
        return torch.stack(drawn)

    return policy
