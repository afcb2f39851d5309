"""Images as PNG class folders, and the same as a CSV manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from PIL import Image

__all__ = ["write_class_folders"]


def write_class_folders(out: Path, images: Iterable[tuple[str, str, Image.Image]]) -> Path:
    """Write `images`, each a label, a name without suffix and itself, below ``out/images`` and ``out/manifest.csv``.
    Returns the folder."""
    rows = []
    for label, name, image in images:
        path = out / "images" / label / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        rows.append((str(path.relative_to(out)), label))
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(out / "manifest.csv", index=False)
    return out / "images"
