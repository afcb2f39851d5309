from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from automl.config import AUGMENTATIONS
from automl.training import contact_sheet, make_policy

torch.set_num_threads(1)

RANDOM = [name for name in AUGMENTATIONS if name != "none"]


def noise(count: int = 6, height: int = 32, width: int = 32) -> Tensor:
    """Images ``(count, 3, height, width) uint8`` in the memory that the loader gives."""
    shape = (count, height, width, 3)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return images.permute(0, 3, 1, 2)


def drawn(name: str, images: Tensor, seed: int = 0, magnitude: int = 9) -> Tensor:
    torch.manual_seed(seed)
    return make_policy(name, magnitude)(images)


def ramps(count: int, side: int = 64) -> Tensor:
    """Images whose first channel grows with x and whose second grows with y, by 2 a pixel."""
    ramp = torch.arange(side, dtype=torch.uint8) * 2 + 60
    x, y = ramp[None, :].expand(side, side), ramp[:, None].expand(side, side)
    return torch.stack([x, y, torch.zeros_like(x)]).expand(count, 3, side, side).clone()


def maps(images: Tensor) -> np.ndarray:
    """The map from output to input, ``(count, 2, 3)`` in pixels, that `ramps` shows at the centre of each image."""
    side = images.shape[-1]
    middle = slice(side // 2 - 6, side // 2 + 6)
    y, x = np.mgrid[middle, middle]
    design = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1).astype(float)
    values = (images[:, :2, middle, middle].numpy().astype(float) - 60) / 2
    return np.stack([np.linalg.lstsq(design, image.reshape(2, -1).T, rcond=None)[0].T for image in values])


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("size", [(32, 32), (28, 28), (40, 33)])
def test_a_policy_keeps_shape_and_type_and_follows_the_seed(name: str, size: tuple[int, int]) -> None:
    images = noise(4, *size)
    before = images.clone()
    once, again, other = drawn(name, images), drawn(name, images), drawn(name, images, seed=1)
    assert (once.shape, once.dtype) == (images.shape, torch.uint8)
    assert torch.equal(once, again)
    assert torch.equal(once, other) == (name == "none")
    assert torch.equal(images, before), "the batch that was given stays as it was"


def test_none_is_the_identity() -> None:
    images = noise()
    assert make_policy("none")(images) is images


@pytest.mark.parametrize("name", RANDOM)
def test_every_image_is_drawn_by_itself(name: str) -> None:
    images = noise(1).expand(12, -1, -1, -1)
    different = {image.numpy().tobytes() for image in drawn(name, images)}
    assert len(different) >= 10


@pytest.mark.parametrize("name", ["light", "affine"])
def test_geometry_repeats_or_mirrors_the_border(name: str) -> None:
    constant = torch.full((64, 3, 32, 32), 200, dtype=torch.uint8)
    assert torch.equal(drawn(name, constant), constant), "no black corners"


@pytest.mark.parametrize("name", ["light", "affine"])
def test_about_half_of_the_images_are_mirrored(name: str) -> None:
    slopes = np.linalg.det(maps(drawn(name, ramps(400)))[:, :, :2])
    assert 160 < (slopes < 0).sum() < 240
    assert (np.abs(slopes) > 0.5).all()


@pytest.mark.parametrize("name", ["trivial", "rand", "augmix", "three"])
def test_the_policies_of_torchvision_are_mirrored_too(name: str) -> None:
    left = torch.zeros(200, 3, 32, 32, dtype=torch.uint8)
    left[..., :16] = 255
    brighter_right = (drawn(name, left)[..., 16:].float().mean((1, 2, 3)) > 127).sum()
    assert 60 < brighter_right < 140


def test_light_moves_pixels_and_interpolates_none() -> None:
    images = noise(1, 28, 28).expand(50, -1, -1, -1)
    values = set(images[0].reshape(3, -1).T.contiguous().numpy().view("V3").ravel().tolist())
    for image in drawn("light", images):
        assert set(image.reshape(3, -1).T.contiguous().numpy().view("V3").ravel().tolist()) <= values
    shifts = maps(drawn("light", ramps(300)))
    mirrored = shifts[:, 0, 0] < 0
    offsets = np.where(mirrored, shifts[:, 0, 2] - 63, shifts[:, 0, 2])
    assert sorted(set(np.round(offsets).astype(int))) == list(range(-4, 5)), "a fourteenth of 64 either way"
    np.testing.assert_allclose(np.abs(shifts[:, 0, 0]), 1, atol=1e-6)


def test_affine_stays_within_its_ranges_also_where_it_mirrors() -> None:
    """The singular values of zoom * rotation * shear are bounded by those of zoom and shear, whatever the rotation."""
    found = maps(drawn("affine", ramps(400)))
    singular = np.linalg.svd(found[:, :, :2], compute_uv=False)
    sheared = np.linalg.svd(np.array([[1, -np.sin(0.2)], [0, np.cos(0.2)]]), compute_uv=False)
    assert singular.max() < 1.2 * sheared.max() * 1.03
    assert singular.min() > 0.8 * sheared.min() * 0.97
    angles = np.degrees(np.arctan2(found[:, 1, 0] * np.sign(found[:, 0, 0]), np.abs(found[:, 0, 0])))
    assert 15 < np.abs(angles).max() < 21
    centre = found[:, :, :2] @ np.array([31.5, 31.5]) + found[:, :, 2] - 31.5
    assert 10 < np.abs(centre).max() < 0.2 * 64 + 0.5


def test_rand_obeys_its_magnitude() -> None:
    images = torch.full((40, 3, 32, 32), 100, dtype=torch.uint8)
    images[:, :, 8:24, 8:24] = 180
    moved = [(drawn("rand", images, magnitude=m).float() - images.float()).abs().mean().item() for m in (1, 29)]
    assert moved[0] < moved[1]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match='unknown augmentation policy "lite": expected one of none, light'):
        make_policy("lite")


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_contact_sheet_starts_with_the_original_and_leaves_random_state_alone(name: str) -> None:
    images = noise(2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    sheet = contact_sheet(name, images, copies=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert (sheet.shape, sheet.dtype) == ((3, 64, 128), torch.uint8)
    assert torch.equal(sheet[:, 32:, :32], images[1])
    assert torch.equal(sheet, contact_sheet(name, images, copies=3))
    assert torch.equal(sheet[:, :, 32:64], sheet[:, :, 64:96]) == (name == "none")
