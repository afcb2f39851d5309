"""Fine-tuning as the documentation of timm, torchvision and PyTorch shows it: what both peers share.

ImageFolder, DataLoader, `timm.create_model`, AdamW and the one-cycle schedule, one checkpoint per epoch. It knows
nothing of the package `automl`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

VALIDATION_FRACTION = 0.2
FIXED = {"batch_size": 16, "weight_decay": 0.05, "label_smoothing": 0.1}


def make_model(config: dict[str, Any], classes: int, weights_dir: Path | None) -> tuple[nn.Module, list[nn.Module]]:
    """Return the network and those of its parts that stand still: the first `freeze` of its blocks."""
    pretrained = {"file": str(weights_dir / f"{config['backbone']}.safetensors")} if weights_dir else None
    model = timm.create_model(
        config["backbone"], pretrained=weights_dir is not None, pretrained_cfg_overlay=pretrained, num_classes=classes
    )
    blocks = [block for stage in model.blocks for block in stage]
    parts = [nn.ModuleList([model.conv_stem, model.bn1]), *blocks, nn.ModuleList([model.conv_head, model.bn2])]
    frozen = parts[: round(config["freeze"] * len(parts))]
    for part in frozen:
        part.requires_grad_(False)
    return model.to(memory_format=torch.channels_last), frozen


def make_transform(config: dict[str, Any], *, train: bool) -> v2.Compose:
    side, cfg = config["resolution"], timm.get_pretrained_cfg(config["backbone"])
    steps: list[Any] = [v2.Resize((side, side), interpolation=v2.InterpolationMode(cfg.interpolation)), v2.ToImage()]
    if train and config["augmentation"] == "light":
        steps += [v2.RandomCrop(side, padding=side // 14, padding_mode="reflect"), v2.RandomHorizontalFlip()]
    return v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True), v2.Normalize(cfg.mean, cfg.std)])


def make_loaders(config: dict[str, Any], data: Path, seed: int) -> tuple[DataLoader, DataLoader, ImageFolder]:
    """Return loaders of the training and validation images, and the folder: the same split for every trial."""
    train, validation = (ImageFolder(str(data), make_transform(config, train=each)) for each in (True, False))
    chosen, held_out = train_test_split(
        range(len(train)), test_size=VALIDATION_FRACTION, stratify=train.targets, random_state=seed
    )
    batches = DataLoader(Subset(train, chosen), config["batch_size"], shuffle=True, drop_last=True)
    return batches, DataLoader(Subset(validation, sorted(held_out)), 64), validation


def fit(config: dict[str, Any], data: Path, weights_dir: Path, seed: int) -> Iterator[tuple[float, dict[str, Any]]]:
    """Train for `epochs`; after each one yield the validation accuracy and all that is needed to use the model."""
    torch.manual_seed(seed)
    batches, held_out, images = make_loaders(config, data, seed)
    model, frozen = make_model(config, len(images.classes), weights_dir)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, config["learning_rate"], weight_decay=config["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config["learning_rate"], total_steps=config["epochs"] * len(batches)
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=config["label_smoothing"])
    for epoch in range(1, config["epochs"] + 1):
        model.train()
        for part in frozen:
            part.eval()  # BatchNorm statistics of frozen layers stay as well
        for inputs, targets in batches:
            loss = criterion(model(inputs.to(memory_format=torch.channels_last)), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        right = 0
        with torch.inference_mode():
            for inputs, targets in held_out:
                predicted = model(inputs.to(memory_format=torch.channels_last)).argmax(1)
                right += int((predicted == targets).sum())
        accuracy = right / len(held_out.dataset)
        paths = [images.samples[index][0] for index in held_out.dataset.indices]
        facts = {**config, "epoch": epoch, "accuracy": accuracy, "classes": images.classes, "validation": paths}
        yield accuracy, {"model": model.state_dict(), "config": facts}


def save(folder: Path, state: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state["model"], folder / "model.pt")
    (folder / "config.json").write_text(json.dumps(state["config"]))


def predict(folder: Path, paths: Sequence[str]) -> list[str]:
    """Return the label of every image, by the model saved in `folder`."""
    config = json.loads((folder / "config.json").read_text())
    model, _ = make_model(config, len(config["classes"]), None)
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    model.eval()
    transform, labels = make_transform(config, train=False), list[str]()
    with torch.inference_mode():
        for start in range(0, len(paths), 64):
            images = torch.stack([transform(default_loader(path)) for path in paths[start : start + 64]])
            predicted = model(images.to(memory_format=torch.channels_last)).argmax(1)
            labels += [config["classes"][each] for each in predicted.tolist()]
    return labels


class Incumbents:
    """Keeps every checkpoint that is better than all before it in `out`/incumbents/NNN; `out`/incumbents.jsonl has the
    `time.time` at which it was there."""

    def __init__(self, out: Path) -> None:
        self.out, self.best, self.count = out, -1.0, 0

    def offer(self, folder: Path) -> None:
        """Copy `folder`, as `save` wrote it, if it is the best so far."""
        accuracy = json.loads((folder / "config.json").read_text())["accuracy"]
        if accuracy <= self.best:
            return
        self.best, kept = accuracy, self.out / "incumbents" / f"{self.count:03d}"
        self.count += 1
        shutil.copytree(folder, kept)
        line = {"time": time.time(), "accuracy": accuracy, "folder": str(kept)}
        with open(self.out / "incumbents.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
