"""Write the package's table of published ImageNet-1k figures from timm's results file.

    git clone https://github.com/huggingface/pytorch-image-models timm
    python -m benchmarks.proxies.imagenet timm/results/results-imagenet.csv --commit COMMIT --date DATE

One row per backbone of the catalogue that the file has, at the resolution of its weights where the file has that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from automl.backbones import find, names
from automl.screening.imagenet_top1 import TABLE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--commit", required=True, help="that last changed the file")
    parser.add_argument("--date", required=True, help="of that commit")
    given = parser.parse_args()
    table = pd.read_csv(given.results)
    published = {str(model): rows for model, rows in table.groupby("model")}
    lines = []
    for name in sorted(names("timm/*")):
        rows = published.get(name.removeprefix("timm/"))
        if rows is not None:
            distance = (rows["img_size"] - find(name).native_resolution).abs()
            row = rows.loc[distance.sort_values(kind="stable").index[0]]
            lines.append(f"{name},{row['img_size']},{row['top1']:.3f}")
    source = f"# timm, results/results-imagenet.csv, commit {given.commit} of {given.date}"
    TABLE.write_text("\n".join([source, "backbone,resolution,top1", *lines]) + "\n", encoding="utf-8")
    print(f"{len(lines)} backbones in {TABLE}")


if __name__ == "__main__":
    main()
