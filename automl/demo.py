"""The demo's data: 1,200 of the 2,000 simulated textile images that the package `conformal-clip-data` carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd

from automl.errors import UsageError
from automl.paths import make_folder, write_atomic

__all__ = ["textile_images", "write_manifest"]


def textile_images() -> pd.DataFrame:
    """Return path and label (nominal, global, local) of the 2,000 simulated textile images.

    Raises:
        UsageError: The package is not installed.
    """
    found = importlib.util.find_spec("conformal_clip_data")
    if found is None or found.origin is None:
        raise UsageError("the demo's images are not installed: pip install 'automl-search[demo]'")
    root = Path(found.origin).parent / "data" / "textile_images" / "simulated"
    rows = [(str(path), path.parent.name) for path in sorted(root.glob("*/*.jpg"))]
    return pd.DataFrame(rows, columns=["path", "label"])


def write_manifest(folder: Path) -> Path:
    """Write the demo's manifest: 600 images to train and validate on, 600 to test on. Returns its path."""
    images = textile_images().sample(1200, random_state=0).reset_index(drop=True)
    images["split"] = ["train"] * 450 + ["validation"] * 150 + ["test"] * 600
    make_folder(folder)
    write_atomic(folder / "manifest.csv", images.to_csv(index=False))
    return folder / "manifest.csv"
