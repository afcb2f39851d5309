from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import SafetensorError

from automl.backbones import build, find
from automl.data import fit
from automl.errors import OutputError, UsageError
from automl.refit import in_words, load_package, predict, save_package
from automl.refit.measured import score
from automl.search.spec import TrialSpec
from tests.images import WHITE, picture, save
from tests.small import CONVNEXT, EFFICIENTNET, RESNET, VIT, spec_of

LABELS = ("a|b", "<i>", "plain")
TORCHVISION = "torchvision/resnet18.IMAGENET1K_V1"

ALONE = """
import importlib.machinery, re, sys
from pathlib import Path

ABSENT = {"automl", "ray", "optuna", "sklearn", "pandas", "torchmetrics", "typer", "pydantic", "ruamel", "pyarrow"}
find_spec = importlib.machinery.PathFinder.find_spec

def present(name, path=None, target=None):
    return None if name.split(".")[0] in ABSENT else find_spec(name, path, target)

importlib.machinery.PathFinder.find_spec = present
import torch
from PIL import Image

torch.set_num_threads(1)
for folder in sys.argv[1:]:
    card = Path(folder, "README.md").read_text()
    (code,) = re.findall(r"```python\\n(.*?)```", card, flags=re.DOTALL)
    image = Image.open(Path(folder, "..", "image.png"))
    images = torch.load(Path(folder, "..", "images.pt"), weights_only=True)
    names = {"image": image, "images": images}
    exec(code.replace("PATH", folder), names)
    if "transform" in names:
        torch.save(names["logits"].detach(), Path(folder, "card.pt"))
        names["logits"] = names["model"](images)
    torch.save(names["logits"].detach(), Path(folder, "logits.pt"))
assert not ABSENT & {name.split(".")[0] for name in sys.modules}
"""


def metrics() -> dict[str, Any]:
    logits = np.eye(3, dtype=np.float32)
    return {"trial": 7, "epochs": 4, "train_images": 10, "test": score(logits, np.arange(3), LABELS)}


def package(folder: Path, spec: TrialSpec) -> torch.nn.Module:
    """Save a model of random weights (also in BatchNorm) as a package. Returns it."""
    torch.manual_seed(1)
    model = build(
        find(spec.backbone), 3, resolution=spec.resolution, head=spec.head, dropout=spec.dropout, weights=None  # type: ignore[arg-type]
    )  # fmt: skip
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(4, 3, spec.resolution, spec.resolution))
    save_package(folder, model, spec, labels=LABELS, max_pixels=10**6, metrics=metrics())
    return model.eval()


SPECS = {
    "linear": spec_of(RESNET),
    "dropout": spec_of(RESNET, dropout=0.5),
    "mlp": spec_of(RESNET, head="mlp", dropout=0.2),
    "vit": spec_of(VIT),
    "vit-mlp": spec_of(VIT, head="mlp"),
    "convnext": spec_of(CONVNEXT, crop_mode="center"),
    "efficientnet": spec_of(EFFICIENTNET, crop_mode="border"),
    "torchvision": spec_of(TORCHVISION),
}


def test_packages_load_where_only_timm_and_torch_are_and_give_the_same_logits(tmp_path: Path) -> None:
    """By the code on the model card, for every kind of head and for a backbone of torchvision."""
    images = torch.randn(3, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    save(picture(0, (50, 40)), tmp_path / "image.png")
    expected = {}
    for name, spec in SPECS.items():
        model = package(tmp_path / name, spec)
        with torch.no_grad():
            expected[name] = model(images)
    folders = [str(tmp_path / name) for name in SPECS]
    subprocess.run([sys.executable, "-c", ALONE, *folders], check=True, cwd=tmp_path)
    for name, logits in expected.items():
        given = torch.load(tmp_path / name / "logits.pt", weights_only=True)
        torch.testing.assert_close(given, logits, atol=1e-5, rtol=1e-5)
        model, loaded = load_package(tmp_path / name)
        with torch.no_grad():
            torch.testing.assert_close(model(images), logits, atol=1e-6, rtol=1e-5)
        assert loaded.labels == LABELS
        # the transform of the card does to an RGB image what predict does
        if (tmp_path / name / "card.pt").exists():
            row = torch.load(tmp_path / name / "card.pt", weights_only=True).softmax(1)[0]
            (prediction,), _ = predict(tmp_path / name, [tmp_path / "image.png"])
            assert prediction.probabilities == pytest.approx(row.tolist(), abs=0.02)


@pytest.mark.parametrize(("crop_mode", "tolerance"), [("squash", 0.0), ("center", 3.0)])
def test_timms_transform_is_what_predict_does(tmp_path: Path, crop_mode: Any, tolerance: float) -> None:
    """To the last bit when squashed. timm rounds before and after a centre crop where ours is one step, up to three
    levels of noise in the mean; with borders timm pads with black and predict with the study's background."""
    spec = spec_of(EFFICIENTNET, crop_mode=crop_mode)
    package(tmp_path, spec)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    backbone = find(spec.backbone)
    for seed, size in enumerate([(50, 40), (40, 50), (32, 32), (128, 64)]):
        image = picture(seed, size)
        ours = fit(image, 32, backbone.interpolation, crop_mode, background=WHITE)
        theirs = transform(image) * torch.tensor(backbone.std).view(3, 1, 1) + torch.tensor(backbone.mean).view(3, 1, 1)
        pixels = (theirs * 255).round().permute(1, 2, 0).numpy()
        assert np.abs(pixels - ours).mean() <= tolerance


def test_saving_leaves_the_model_whole(tmp_path: Path) -> None:
    for name in ("linear", "mlp", "vit-mlp"):
        model = package(tmp_path / name, SPECS[name])
        assert model(torch.randn(1, 3, 32, 32)).shape == (1, 3)


def test_a_package_of_a_linear_head_replaces_one_of_an_mlp(tmp_path: Path) -> None:
    package(tmp_path, SPECS["mlp"])
    assert (tmp_path / "head.safetensors").exists()
    model = package(tmp_path, SPECS["linear"])
    assert not (tmp_path / "head.safetensors").exists()
    loaded, _ = load_package(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images), model(images))


def test_timms_config_names_the_labels(tmp_path: Path) -> None:
    package(tmp_path, SPECS["linear"])
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["label_names"] == list(LABELS)
    assert config["num_classes"] == 3
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]


def test_the_card_says_how_good_and_of_what(tmp_path: Path) -> None:
    package(tmp_path, SPECS["linear"])
    card = (tmp_path / "README.md").read_text()
    assert "Test accuracy **1.0000**" in card
    assert "3 images that nothing before had looked at" in card
    assert "| a\\|b |" in card
    assert "&lt;i>" in card
    assert re.search(r"trial\s+7", card)


def test_the_score_that_was_searched_for_is_told() -> None:
    found = metrics()
    assert in_words(found) == "accuracy 1.0000 (95 % interval 0.4385 to 1.0000), macro recall 1.0000, macro F1 1.0000"
    assert in_words(found | {"metric": "auroc"}).endswith(", macro F1 1.0000, AUROC 1.0000")
    assert in_words(found | {"metric": "macro_f1"}) == in_words(found)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "package.json").unlink(), r"no model package in .*: package\.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "is damaged|is missing"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), "is damaged"),
        (lambda folder: (folder / "package.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "package.json").write_text('{"labels": []}'), "is damaged"),
        (lambda folder: (folder / "package.json").write_text("[]"), "is damaged"),
        (lambda folder: (folder / "config.json").unlink(), "package"),
        (lambda folder: (folder / "head.safetensors").unlink(), "head.safetensors is missing"),
    ],
)
def test_a_damaged_package_is_one_line(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    package(tmp_path, SPECS["mlp"])
    damage(tmp_path)
    with pytest.raises(UsageError, match=message) as error:
        load_package(tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_no_package_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="make one with automl refit"):
        load_package(tmp_path / "none")


def test_a_folder_with_odd_letters_loads(tmp_path: Path) -> None:
    folder = tmp_path / "a b'c;d\nü"
    model = package(folder, SPECS["linear"])
    loaded, _ = load_package(folder)
    images = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded(images), model(images))


def test_a_full_disk_names_the_folder_and_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("automl.refit.package.save_for_hf", full)
    with pytest.raises(OutputError, match=r"\d+ bytes\b.*No space left"):
        package(tmp_path, SPECS["linear"])
