"""The three sets of this benchmark: their images, splits and pixels, as studies that trials can be run in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

from automl.backbones import find
from automl.config import SearchConfig, load_config
from automl.data import Dataset, build_cache
from automl.demo import textile_images
from automl.paths import StudyFolder, write_atomic
from automl.search.spec import TrialSpec, effective_resolution, make_spec
from automl.search.trial import variant_of
from automl.space import Space, make_space
from automl.stages import audit, decode_once, locate_weights, with_full_names
from benchmarks.fashion_mnist import write as write_fashion_mnist

HERE = Path(__file__).parent
SETS = ("textile", "fashion-mnist", "digits")
SIZES = {"train": 300, "validation": 150, "test": 400}
SEED = 31


@dataclass(frozen=True)
class Prepared:
    """A set on disk: decoded at `resolution` and at half of it, with the weights of its backbones."""

    config: SearchConfig
    folder: StudyFolder
    dataset: Dataset
    space: Space
    weights: dict[str, str]
    resolution: int

    def spec(self, backbone: str, freeze_depth: float, seed: int) -> TrialSpec:
        """The program's sound default of `backbone` at a freeze depth (its learning rate, light augmentation)."""
        params = self.space.nearest({"backbone": backbone, "freeze_depth": freeze_depth})
        return make_spec(
            params, config=self.config, space=self.space, weights=self.weights, balanced=False, root=seed
        )  # fmt: skip

    def side(self, backbone: str, *, half: bool = False) -> int:
        """The resolution that `backbone` is seen at: the set's, or half of it."""
        return effective_resolution(find(backbone), self.resolution // 2 if half else self.resolution)


def prepare(name: str, work: Path) -> Prepared:
    """Write images, splits and pixels of the set `name` below `work`, as far as they are not there yet."""
    folder = StudyFolder((work / f"{name}-study").resolve())
    folder.root.mkdir(parents=True, exist_ok=True)
    manifest = folder.root / "images.csv"
    if not manifest.exists():
        images = images_of(name, work.resolve()).sample(sum(SIZES.values()), random_state=SEED)
        images["split"] = np.repeat(list(SIZES), list(SIZES.values()))
        write_atomic(manifest, images.to_csv(index=False))
    config = with_full_names(load_config(HERE / f"{name}.yaml").model_copy(update={"dataset": str(manifest)}))
    names = [each.name for each in config.backbones]
    space, weights = make_space(names, config.params), locate_weights(config, None)
    dataset = audit(config, folder, lambda stage, done, total: None)
    decode_once(config, folder, dataset, space, lambda stage, done, total: None)
    prepared = Prepared(config, folder, dataset, space, weights, int(space.constants["resolution"]))
    halves = {variant_of(find(each), prepared.side(each, half=True), config.data.crop_mode) for each in names}
    build_cache(
        dataset.table, folder.pixels, sorted(halves, key=str), background=config.data.background,
        max_pixels=config.data.max_pixels,
    )  # fmt: skip
    return prepared


def images_of(name: str, work: Path, images: int = sum(SIZES.values())) -> pd.DataFrame:
    """Return path and label of at least so many `images` of the set `name`, written below `work` where they are not
    files yet."""
    if name == "textile":
        return textile_images()
    if name == "digits":
        return _digits(work / name)
    write_fashion_mnist(work / name, images)
    table = pd.read_csv(work / name / "manifest.csv")
    return table.assign(path=[str(work / name / each) for each in table["path"]])


def _digits(folder: Path) -> pd.DataFrame:
    """Write scikit-learn's 1,797 digits (8x8, levels 0 to 16) as PNG. Returns path and label."""
    digits = load_digits()
    rows = []
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.minimum(image * 16, 255).astype(np.uint8)).save(path)
        rows.append((str(path), str(label)))
    return pd.DataFrame(rows, columns=["path", "label"])
