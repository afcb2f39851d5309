from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from automl.data import Batches

torch.set_num_threads(1)


@pytest.fixture
def pixels(tmp_path: Path) -> np.ndarray:
    """A read-only memory map whose image i is filled with i, but for its first pixel."""
    array = np.repeat(np.arange(20, dtype=np.uint8), 6 * 6 * 3).reshape(20, 6, 6, 3)
    array[:, 0, 0] = (1, 2, 3)
    np.save(tmp_path / "a.npy", array)
    return np.load(tmp_path / "a.npy", mmap_mode="r")


TARGETS = np.arange(20, dtype=np.int64) * 10


def test_images_targets_and_rows_belong_together(pixels: np.ndarray) -> None:
    rows = np.array([3, 1, 17, 5, 8])
    batches = list(Batches(pixels, TARGETS, rows, batch_size=2))
    assert [len(targets) for _, targets, _ in batches] == [2, 2, 1]
    assert torch.cat([part for _, _, part in batches]).tolist() == rows.tolist()
    for images, targets, part in batches:
        assert images.dtype == torch.uint8
        assert images.shape == (len(part), 3, 6, 6)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images[:, 0, 5, 5].tolist() == part.tolist()
        assert images[0, :, 0, 0].tolist() == [1, 2, 3]
        assert targets.dtype == torch.int64
        assert targets.tolist() == (part * 10).tolist()


def test_a_batch_may_be_changed_without_changing_the_data(pixels: np.ndarray) -> None:
    batches = Batches(pixels, TARGETS, np.arange(20), batch_size=20)
    images, targets, _ = next(iter(batches))
    images.zero_()
    targets.zero_()
    again, targets_again, _ = next(iter(batches))
    assert again.any()
    assert targets_again.any()


def test_embeddings_are_returned_as_they_are() -> None:
    features = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    ((images, targets, rows),) = Batches(features, TARGETS, np.array([4, 2]), batch_size=8)
    np.testing.assert_array_equal(images.numpy(), features[[4, 2]])
    assert (targets.tolist(), rows.tolist()) == ([40, 20], [4, 2])


def order(batches: Batches) -> list[int]:
    return [row for _, _, rows in batches for row in rows.tolist()]


def test_shuffling_is_a_permutation_that_the_generator_decides(pixels: np.ndarray) -> None:
    generator = torch.Generator().manual_seed(7)
    batches = Batches(pixels, TARGETS, np.arange(20), batch_size=6, shuffle=True, generator=generator)
    first = order(batches)
    state = generator.get_state()
    second = order(batches)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    generator.set_state(state)
    assert order(batches) == second


@pytest.mark.parametrize(
    ("count", "drop_last", "sizes"),
    [
        (9, "never", [4, 4, 1]),
        (9, "single", [4, 4]),
        (10, "single", [4, 4, 2]),
        (1, "never", [1]),
        (1, "single", []),
        (11, "odd", [4, 4, 2]),
        (9, "odd", [4, 4]),
        (8, "odd", [4, 4]),
        (0, "never", []),
    ],
)
def test_the_last_batch(pixels: np.ndarray, count: int, drop_last: str, sizes: list[int]) -> None:
    batches = Batches(
        pixels, TARGETS, np.arange(count), batch_size=4, drop_last=drop_last  # type: ignore[arg-type]
    )  # fmt: skip
    assert [len(targets) for _, targets, _ in batches] == sizes
    assert (len(batches), batches.images) == (len(sizes), sum(sizes))


def test_what_is_dropped_differs_by_epoch(pixels: np.ndarray) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = Batches(
        pixels, TARGETS, np.arange(9), batch_size=4, shuffle=True, generator=generator, drop_last="single"
    )
    dropped = {(set(range(9)) - set(order(batches))).pop() for _ in range(20)}
    assert len(dropped) > 3


def test_arguments_that_cannot_be_meant_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least 1: given 0"):
        Batches(pixels, TARGETS, np.arange(4), batch_size=0)
    with pytest.raises(ValueError, match="even batch size: given 3"):
        Batches(pixels, TARGETS, np.arange(4), batch_size=3, drop_last="odd")
    with pytest.raises(ValueError, match="one target per row of the array"):
        Batches(pixels, TARGETS[:5], np.arange(4), batch_size=2)


def parts(*lengths: int) -> list[torch.Tensor]:
    return list(torch.arange(sum(lengths)).split(list(lengths)))


@pytest.fixture
def unpinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the prefetching thread run on a machine without a GPU."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)


@pytest.mark.usefixtures("unpinned")
def test_prefetching_gives_the_same_batches(pixels: np.ndarray) -> None:
    batches = Batches(pixels, TARGETS, np.arange(20), batch_size=6)
    plain, prefetched = list(batches), list(batches._prefetch(parts(6, 6, 6, 2)))
    assert len(plain) == len(prefetched) == 4
    for one, other in zip(plain, prefetched, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.usefixtures("unpinned")
def test_the_prefetching_thread_ends_when_iteration_is_given_up(pixels: np.ndarray) -> None:
    import threading

    before = set(threading.enumerate())
    iterator = Batches(pixels, TARGETS, np.arange(20), batch_size=1)._prefetch(parts(*[1] * 20))
    next(iterator)
    assert set(threading.enumerate()) - before
    iterator.close()  # type: ignore[attr-defined]
    assert not set(threading.enumerate()) - before


@pytest.mark.usefixtures("unpinned")
def test_an_error_in_the_prefetching_thread_is_raised_where_batches_are_used(pixels: np.ndarray) -> None:
    iterator = Batches(pixels, TARGETS, np.arange(20), batch_size=1)._prefetch([torch.tensor([99])])
    with pytest.raises(IndexError):
        next(iterator)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_equal_those_on_the_cpu(pixels: np.ndarray) -> None:
    for (images, targets, rows), (images_cpu, targets_cpu, rows_cpu) in zip(
        Batches(pixels, TARGETS, np.arange(20), batch_size=6, device="cuda"),
        Batches(pixels, TARGETS, np.arange(20), batch_size=6),
        strict=True,
    ):
        assert images.is_cuda
        assert torch.equal(images.cpu(), images_cpu)
        assert torch.equal(targets.cpu(), targets_cpu)
        assert torch.equal(rows, rows_cpu)
