from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from automl import backbones
from automl.errors import OutputError
from automl.screening import embed, embedding_path, load_embedding, save_embedding
from automl.training import Normalise, Precision
from tests.tiny import BFLOAT16, CHANNELS_LAST, CPU, FLOAT32, MEAN, STD, colours, tiny

torch.set_num_threads(1)

ARRAY, _ = colours(9)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
def test_the_head_on_an_embedding_is_the_model(architecture: str) -> None:
    model, rows = tiny(architecture), np.array([4, 0, 8])
    embedding = embed(model, ARRAY, rows, normalise=Normalise(MEAN, STD), precision=FLOAT32, device=CPU)
    assert (embedding.shape[0], embedding.ndim, embedding.dtype) == (3, 2, np.float32)
    with torch.no_grad():
        logits = model(Normalise(MEAN, STD)(torch.from_numpy(ARRAY[rows]).permute(0, 3, 1, 2)))
        torch.testing.assert_close(backbones.head_of(model)(torch.from_numpy(embedding)), logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("precision", [CHANNELS_LAST, BFLOAT16], ids=lambda each: each.name)
def test_the_model_can_be_trained_after_embedding(precision: Precision) -> None:
    model = tiny("test_resnet")
    embed(model, ARRAY, np.arange(9), normalise=Normalise(MEAN, STD), precision=precision, device=CPU)
    model.train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_dropout_is_off_and_statistics_stand_still() -> None:
    model = tiny("test_efficientnet", dropout=0.5, drop_path=0.5).train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    one, two = (
        embed(model, ARRAY, np.arange(9), normalise=Normalise(MEAN, STD), precision=FLOAT32, device=CPU)
        for _ in range(2)
    )
    np.testing.assert_array_equal(one, two)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_the_key_is_everything_that_the_content_depends_on(tmp_path: Path) -> None:
    base = {"backbone": "timm/a", "weights": "abc", "resolution": 224, "data": "d"}
    others = [{"backbone": "timm/b"}, {"weights": "abd"}, {"resolution": 22}, {"data": "e"}, {"weights": "none seed 1"}]
    paths = {embedding_path(tmp_path, **{**base, **other}) for other in [{}, *others]}  # type: ignore[arg-type]
    assert len(paths) == len(others) + 1
    assert embedding_path(tmp_path, **base) in paths  # type: ignore[arg-type]
    assert {path.parent for path in paths} == {tmp_path}


def test_what_is_saved_is_loaded_read_only_and_what_is_not_is_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.npy"
    assert load_embedding(path) is None
    values = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    save_embedding(path, values)
    loaded = load_embedding(path)
    assert isinstance(loaded, np.memmap)
    np.testing.assert_array_equal(loaded, values)
    with pytest.raises(ValueError, match="read-only"):
        loaded[0, 0] = 1


def test_the_first_writer_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    start = threading.Barrier(4)

    def write(number: int) -> None:
        start.wait()
        save_embedding(path, np.full((50, 50), number, np.float32))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = load_embedding(path)
    assert first is not None
    assert len(np.unique(first)) == 1
    save_embedding(path, np.full((50, 50), 9, np.float32))
    np.testing.assert_array_equal(load_embedding(path), first)
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        save_embedding(tmp_path / "file" / "a.npy", np.zeros((1, 1), np.float32))


def test_a_damaged_file_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    save_embedding(path, np.zeros((4, 3), np.float32))
    path.write_bytes(path.read_bytes()[:100])
    assert load_embedding(path) is None
    save_embedding(path, np.ones((4, 3), np.float32))
    loaded = load_embedding(path)
    assert loaded is not None
    assert loaded.sum() == 12
