from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from PIL import Image

from benchmarks import drawings


def test_drawings_are_on_white_in_the_folders_of_their_classes(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / drawings.PACKAGE
    (package / "img" / "twitter" / "64").mkdir(parents=True)
    kinds = {"a": "Food & Drink", "b": "Flags", "c": "Component", "d": "Flags"}
    known = [{"image": f"{name}.png", "category": kind, "has_img_twitter": name != "d"} for name, kind in kinds.items()]
    (package / "emoji.json").write_text(json.dumps(known))
    for name in kinds:
        Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(package / "img" / "twitter" / "64" / f"{name}.png")
    folder = drawings.write(tmp_path / "out", 5, source=drawings.install(tmp_path))  # it is there
    found = pd.read_csv(tmp_path / "out" / "manifest.csv").sort_values("path")
    assert found.to_numpy().tolist() == [
        ["images/flags/b.png", "flags"],
        ["images/food and drink/a.png", "food and drink"],
    ]
    with Image.open(folder / "flags" / "b.png") as image:
        assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 255, 255))
