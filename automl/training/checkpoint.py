"""Checkpoints that a run resumes from bit for bit (tensors as safetensors, the rest as its JSON metadata), and weights,
which are only predicted with.

Nothing is pickled. Random state needs no saving: `fine_tune` seeds every epoch from (seed, epoch).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from automl.errors import UsageError
from automl.paths import write_atomic

__all__ = ["Progress", "load_checkpoint", "load_weights", "save_checkpoint", "save_weights"]


class Progress(NamedTuple):
    """How far a run is: epochs finished, optimizer steps done, seconds spent training."""

    epoch: int
    step: int
    seconds: float


def save_checkpoint(
    path: Path, progress: Progress, *, models: dict[str, nn.Module], optimizer: torch.optim.Optimizer, identity: str
) -> None:
    """Write everything that the next epoch depends on, atomically; the previous checkpoint stays until then.

    Args:
        models: Modules by name (the model, and its moving average where there is one).
        identity: What the run is; `load_checkpoint` refuses a checkpoint of another one.

    Raises:
        OutputError: The disk is full or not writable.
    """
    tensors: dict[str, Tensor] = {}
    for name, model in models.items():
        tensors |= {f"{name}.{key}": value for key, value in model.state_dict().items()}
    numbers: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value
            else:
                numbers[f"{index}.{key}"] = value
    metadata = {"progress": json.dumps(progress), "numbers": json.dumps(numbers), "identity": identity}
    write_atomic(path, safetensors.torch.save(_plain(tensors), metadata))


def save_weights(path: Path, model: nn.Module) -> None:
    """Write what `model` predicts with, and nothing that training it further would need, atomically.

    Raises:
        OutputError: The disk is full or not writable.
    """
    write_atomic(path, safetensors.torch.save(_plain(model.state_dict())))


def load_weights(path: Path, model: nn.Module) -> None:
    """Restore what `save_weights` wrote into `model`, in place.

    Raises:
        UsageError: The file is not there, damaged, or of another model.
    """
    try:
        model.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UsageError(f"cannot read weights {path}: {str(error).splitlines()[0]}") from error


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}


def load_checkpoint(
    path: Path, *, models: dict[str, nn.Module], optimizer: torch.optim.Optimizer, identity: str
) -> Progress:
    """Restore what `save_checkpoint` wrote into `models` and `optimizer`, in place.

    Raises:
        UsageError: The file is damaged or belongs to another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"cannot read checkpoint {path}: {error}; delete it to start the trial anew") from error
    if metadata.get("identity") != identity:
        raise UsageError(f"checkpoint {path} belongs to another configuration; delete it to start the trial anew")
    for name, model in models.items():
        prefix = f"{name}."
        model.load_state_dict({key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)})
    state = optimizer.state_dict()
    restored: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, entry = key.split(".", 2)
            restored.setdefault(int(index), {})[entry] = value
    for key, value in json.loads(metadata["numbers"]).items():
        index, entry = key.split(".", 1)
        restored.setdefault(int(index), {})[entry] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, entries in restored.items():
        parameter = parameters[number]
        for entry, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:  # strides too, or the step is slower
                entries[entry] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    state["state"] = restored
    optimizer.load_state_dict(state)
    return Progress(*json.loads(metadata["progress"]))
