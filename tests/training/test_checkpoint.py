from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from automl import paths
from automl.errors import OutputError, UsageError
from automl.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from tests.tiny import tiny

torch.set_num_threads(1)


def stepped(kind: str, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = tiny("test_resnet", depth=0.5, seed=seed).to(memory_format=torch.channels_last)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": parameters[:4], "peak": 1.0}, {"params": parameters[4:], "peak": 2.0}]
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(groups, lr=0.01) if kind == "adamw" else torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    )
    step(model, optimizer)
    return model, optimizer


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    model(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_everything_comes_back_bit_for_bit_and_the_next_step_is_the_same(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = stepped(kind)
    progress = Progress(3, 41, 12.345678901234)
    save_checkpoint(path, progress, models={"model": model}, optimizer=optimizer, identity="é")
    other, other_optimizer = stepped(kind, seed=1)
    assert load_checkpoint(path, models={"model": other}, optimizer=other_optimizer, identity="é") == progress
    for _ in range(2):
        for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(one, two)
        for number, entries in optimizer.state_dict()["state"].items():
            for name, value in entries.items():
                restored = other_optimizer.state_dict()["state"][number][name]
                assert value is None or torch.equal(value, restored)
                assert value is None or value.stride() == restored.stride()
        step(model, optimizer)
        step(other, other_optimizer)
    assert [group["peak"] for group in other_optimizer.param_groups] == [1.0, 2.0]


def test_models_are_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    one, average = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    save_checkpoint(path, Progress(1, 1, 1.0), models={"model": one, "ema": average}, optimizer=optimizer, identity="")
    other, other_average = nn.Linear(2, 2), nn.Linear(2, 2)
    load_checkpoint(path, models={"model": other, "ema": other_average}, optimizer=optimizer, identity="")
    assert torch.equal(other.weight, one.weight)
    assert torch.equal(other_average.weight, average.weight)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    model, optimizer = stepped("adamw")
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, Progress(1, 1, 1.0), models={"model": model}, optimizer=optimizer, identity="")
    assert {f"model.{key}" for key in model.state_dict()} <= set(safetensors.torch.load_file(path))


def written(path: Path) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    save_checkpoint(path, Progress(1, 1, 1.0), models={"model": model}, optimizer=optimizer, identity="mine")
    return model, optimizer


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def damage_garbage(path: Path) -> None:
    path.write_bytes(b"not safetensors at all")


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_cut, damage_garbage, damage_empty])
def test_a_damaged_checkpoint_is_one_line_with_a_remedy(tmp_path: Path, damage: Any) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = written(path)
    damage(path)
    with pytest.raises(UsageError) as caught:
        load_checkpoint(path, models={"model": model}, optimizer=optimizer, identity="mine")
    assert str(caught.value).startswith(f"cannot read checkpoint {path}: ")
    assert "delete it to start the trial anew" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("metadata", [None, {"identity": "another"}])
def test_a_file_of_something_else_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = written(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(UsageError, match="belongs to another configuration"):
        load_checkpoint(path, models={"model": model}, optimizer=optimizer, identity="mine")


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.safetensors"
    model, optimizer = written(path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(paths.os, "fsync", full)
    with pytest.raises(OutputError, match=r"cannot write \d+ bytes to .*last\.safetensors: No space left"):
        save_checkpoint(path, Progress(2, 2, 2.0), models={"model": model}, optimizer=optimizer, identity="mine")
    assert path.read_bytes() == before
    assert load_checkpoint(path, models={"model": model}, optimizer=optimizer, identity="mine").epoch == 1
