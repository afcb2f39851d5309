"""Write the drawings of the npm package `emoji-datasource-twitter` as PNG class folders, and a CSV manifest.

Emoji of 64 px in nine classes (flags, food, faces, …), on white: Twemoji by Twitter and contributors, CC BY 4.0,
installed by npm. No default of `automl` was chosen on them.

    python -m benchmarks.drawings --images 1600 --out data/drawings
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.class_folders import write_class_folders

PACKAGE = "emoji-datasource-twitter"
VERSION = "16.0.0"


def install(folder: Path) -> Path:
    """Install the package below `folder`, unless it is there. Returns `folder`."""
    if not (folder / "node_modules" / PACKAGE / "emoji.json").exists():
        options = ["--silent", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]
        subprocess.run(["npm", "install", *options, "--prefix", str(folder), f"{PACKAGE}@{VERSION}"], check=True)
    return folder


def load(source: Path) -> pd.DataFrame:
    """Return the drawings of the package below `source`: path and label (the emoji's category). Of an emoji in several
    colours of skin there is one."""
    package = source / "node_modules" / PACKAGE
    known = json.loads((package / "emoji.json").read_text("utf-8"))
    rows = [
        (package / "img" / "twitter" / "64" / each["image"], each["category"].lower().replace(" & ", " and "))
        for each in known
        if each["has_img_twitter"] and each["category"] != "Component"
    ]
    return pd.DataFrame(rows, columns=["path", "label"])


def write(out: Path, images: int, *, source: Path, seed: int = 0) -> Path:
    """Write `images` random drawings below ``out/images`` and ``out/manifest.csv``. Returns the folder."""
    found = load(source)
    chosen = found.iloc[np.random.default_rng(seed).permutation(len(found))[:images]]
    drawings = ((label, path.stem, _on_white(path)) for path, label in chosen.itertuples(index=False))
    return write_class_folders(out, drawings)


def _on_white(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(write(options.out, options.images, source=install(options.out), seed=options.seed))
