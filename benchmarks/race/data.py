"""The images of the race: a folder to train and validate on, and test images that no contender sees."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from safetensors.torch import save_file

from automl.backbones import find, locate_all
from automl.backbones.build import build_pretrained
from automl.demo import textile_images
from benchmarks.drawings import install as install_drawings
from benchmarks.drawings import write as write_drawings
from benchmarks.fashion_mnist import write as write_fashion_mnist

# Images given to the contenders, and test images. No default of `automl` was chosen on the drawings.
SETS = {"textile": (600, 1400), "fashion-mnist": (2000, 2000), "drawings": (600, 1000)}
BACKBONES = tuple(f"timm/tf_efficientnet_lite{size}.in1k" for size in range(3))


class Images(NamedTuple):
    """A folder of class folders for the contenders; paths and labels of the test images."""

    folder: Path
    test: list[str]
    labels: list[str]


def prepare(name: str, seed: int, work: Path, *, divisor: int = 1) -> Images:
    """Draw the images of set `name` by `seed`, once, into `work`; a fraction of them where `divisor` is above 1.

    Labels of test images are their folders' names.
    """
    folder = work / (f"{name}-{seed}" if divisor == 1 else f"{name}-{seed}-{divisor}th")
    if not folder.exists():
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        given, test = (count // divisor for count in SETS[name])
        images = _draw(name, seed, given + test, work)
        for part, rows in (("given", images[:given]), ("test", images[given:])):
            for path, label in rows.itertuples(index=False):
                (partial / part / label).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, partial / part / label)
        partial.rename(folder)
    found = sorted((folder / "test").glob("*/*"))
    return Images(folder / "given", [str(path) for path in found], [path.parent.name for path in found])


def _draw(name: str, seed: int, count: int, work: Path) -> pd.DataFrame:
    if name == "textile":
        return textile_images().sample(count, random_state=seed)
    source = work / f"{name}-{seed}.source"
    if name == "drawings":
        write_drawings(source, count, source=install_drawings(work), seed=seed)
    else:
        write_fashion_mnist(source, count, seed=seed)
    table = pd.read_csv(source / "manifest.csv")
    return table.assign(path=[str(source / each) for each in table["path"]])


def write_weights(folder: Path) -> Path:
    """Write the weights of the backbones, from installed packages, as ``NAME.safetensors``. Returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    backbones = [find(name) for name in BACKBONES]
    missing = {each: folder / f"{each.name.partition('/')[2]}.safetensors" for each in backbones}
    missing = {each: path for each, path in missing.items() if not path.exists()}
    located = locate_all([(each, None) for each in missing])
    for backbone, path in missing.items():
        model = build_pretrained(backbone, resolution=backbone.native_resolution, weights=located[backbone.name].path)
        partial = path.with_suffix(".partial")
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, partial)
        partial.rename(path)
    return folder
