"""The model package: a folder that timm loads, with labels, preprocessing, metrics and a model card.

model/
  config.json        timm's: architecture, classes, preprocessing, label names (those not with an MLP head)
  model.safetensors  the whole network; without its head where that is an MLP
  head.safetensors   only with an MLP head: fc1 and fc2
  package.json       labels and the exact preprocessing that `automl predict` applies
  metrics.json       validation metrics of the trial, test metrics of the refit
  README.md          model card

timm.create_model("local-dir:model", pretrained=True)
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from timm.models import save_for_hf
from torch import nn

from automl.backbones import MlpHead, classifier_name, find, head_of
from automl.config import metric_name
from automl.errors import OutputError, UsageError
from automl.paths import make_folder, write_atomic
from automl.refit.measured import in_words
from automl.search.spec import TrialSpec

__all__ = ["ModelPackage", "load_package", "save_package"]


@dataclass(frozen=True)
class ModelPackage:
    """What an application needs besides the weights: labels and preprocessing."""

    labels: tuple[str, ...]
    backbone: str
    head: str
    resolution: int
    interpolation: str
    crop_mode: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    background: tuple[int, int, int]
    max_pixels: int
    schema_version: int = 1


def save_package(
    folder: Path,
    model: nn.Module,
    spec: TrialSpec,
    *,
    labels: tuple[str, ...],
    max_pixels: int,
    metrics: dict[str, Any],
) -> ModelPackage:
    """Write `model` (built and trained by `spec`) as a package.

    Raises:
        OutputError: The folder cannot be written.
    """
    make_folder(folder)
    backbone = find(spec.backbone)
    package = ModelPackage(
        labels=labels,
        backbone=spec.backbone,
        head=spec.head,
        resolution=spec.resolution,
        interpolation=backbone.interpolation,
        crop_mode=spec.crop_mode,
        mean=backbone.mean,
        std=backbone.std,
        background=spec.background,
        max_pixels=max_pixels,
    )
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()
    head = head_of(model)
    if isinstance(head, MlpHead):
        write_atomic(folder / "head.safetensors", safetensors.torch.save(_tensors(head)))
        _timm(model).reset_classifier(0)
    else:
        (folder / "head.safetensors").unlink(missing_ok=True)
    try:
        _save(model, folder, spec, labels if not isinstance(head, MlpHead) else None)
    except (OSError, SafetensorError) as error:
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        raise OutputError(
            f"cannot write the model ({size} bytes) to {folder}: {error}; free space, then refit"
        ) from error
    if isinstance(head, MlpHead):  # the caller's model is whole again
        parent, _, attribute = classifier_name(model).rpartition(".")
        setattr(model.get_submodule(parent), attribute, head)
    write_atomic(folder / "package.json", json.dumps(asdict(package), indent=2))
    write_atomic(folder / "metrics.json", json.dumps(metrics, indent=2))
    write_atomic(folder / "README.md", _card(package, spec, metrics))
    return package


def _save(model: nn.Module, folder: Path, spec: TrialSpec, labels: tuple[str, ...] | None) -> None:
    backbone = find(spec.backbone)
    save_for_hf(
        model,
        str(folder),
        model_config={"label_names": list(labels)} if labels else {},
        safe_serialization=True,
        data_config={
            "input_size": (3, spec.resolution, spec.resolution),
            "interpolation": backbone.interpolation,
            "mean": backbone.mean,
            "std": backbone.std,
            "crop_pct": 1.0,
            "crop_mode": spec.crop_mode,
        },
    )


def load_package(folder: Path) -> tuple[nn.Module, ModelPackage]:
    """Return the model in evaluation mode and its package.

    Raises:
        UsageError: `folder` is not a package, or a file of it is damaged.
    """
    try:
        values = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        plain: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in values.items()}
        package = ModelPackage(**plain)
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
        if package.head == "mlp":
            state = safetensors.torch.load_file(folder / "head.safetensors")
            head = MlpHead(state["fc1.weight"].shape[1], len(package.labels), 0.0)
            head.load_state_dict(state)
            model = nn.Sequential(model, head)
    except FileNotFoundError as error:
        missing = Path(str(error.filename or error)).name
        raise UsageError(f"no model package in {folder}: {missing} is missing; make one with automl refit") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise UsageError(f"model package {folder} is damaged: {first}; make it again with automl refit") from error
    return model.eval(), package


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in module.state_dict().items()}


def _timm(model: nn.Module) -> Any:
    return model


def _card(package: ModelPackage, spec: TrialSpec, metrics: dict[str, Any]) -> str:
    how = "the configuration of" if metrics.get("refitted", True) else "the training split alone, in"
    if metrics.get("trained_on"):
        how = f"the last {metrics['trained_on']} epochs, and those of the training split before, in"
    if package.head == "mlp":
        usage = """import timm, torch
from safetensors.torch import load_file

backbone = timm.create_model("local-dir:PATH", pretrained=True).eval()
state = load_file("PATH/head.safetensors")
head = torch.nn.Sequential(
    torch.nn.Linear(*reversed(state["fc1.weight"].shape)),
    torch.nn.ReLU(),
    torch.nn.Linear(*reversed(state["fc2.weight"].shape)),
)
head.load_state_dict({
    "0.weight": state["fc1.weight"], "0.bias": state["fc1.bias"],
    "2.weight": state["fc2.weight"], "2.bias": state["fc2.bias"],
})
logits = head(backbone(images))"""
    else:
        usage = """import timm

model = timm.create_model("local-dir:PATH", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
logits = model(transform(image).unsqueeze(0))"""
    return f"""---
library_name: timm
pipeline_tag: image-classification
---
# {package.backbone}, fine-tuned for {len(package.labels)} classes

{_scores(metrics)}
Trained for {metrics["epochs"]} epochs on {metrics["train_images"]} images ({how} trial {metrics["trial"]}):
freeze depth {spec.freeze_depth:g}, learning rate {spec.learning_rate:.3g}, augmentation
`{spec.augmentation}`, batch size {spec.batch_size}, {spec.resolution} px.

## Use

    automl predict PATH images/

or, with nothing but timm:

```python
{usage}
```

{_speed(metrics)}Images are resized to {package.resolution} px (`crop_mode` {package.crop_mode},
{package.interpolation}), transparent parts are put on RGB {list(package.background)}, EXIF rotation is applied.
Labels, in the order of the logits, are in `package.json`. The class order is alphabetical.
"""


def _scores(metrics: dict[str, Any]) -> str:
    """Return what is known of the model's quality, in Markdown."""
    if "test" not in metrics:
        metric = metrics.get("metric", "accuracy")
        score = metrics["validation"].get(metric)
        told = "" if score is None else f"Validation {metric_name(metric)} {score:.4f} in the search. "
        return f"{told}The test split has not been looked at.\n"
    test = metrics["test"]
    lines = [
        f"| {_cell(row['label'])} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} | {row['support']} |"
        for row in test["per_class"]
    ]
    images = f"{test['images']} images that nothing before had looked at"
    accuracy = f"accuracy **{{:.4f}}** (95 % interval {{:.4f}} to {{:.4f}}, {images})"
    return f"""Test {in_words(metrics, accuracy)}.

| class | precision | recall | F1 | images |
|---|---|---|---|---|
{chr(10).join(lines)}
"""


def _speed(metrics: dict[str, Any]) -> str:
    """Return how fast the model is, in Markdown."""
    found = metrics.get("latency")
    if not found:
        return ""
    one, batch = found["one"], found["batch"]
    return (
        f"On {found['device']} ({found['precision']}) one image takes {one['median_ms']:.1f} ms (95 of 100 within "
        f"{one['p95_ms']:.1f} ms), a batch of {batch['images']} {batch['median_ms']:.0f} ms.\n\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
