"""What a trial on the head alone costs on cached embeddings, against the same trial through the backbone.

    python -m benchmarks.head_only            (about a minute on two cores)

The demo's images (450 to train and 150 to validate on), EfficientNet-Lite0 at 224 px, depth 1, no augmentation, four
epochs, three seeds; whole trials in a warm process, start included. Both see the same images in the same batches, and
the features are constants, so the accuracies differ by rounding alone.

Writes a row for each seed to `results/head-only.csv`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from automl.backbones import default_params, find
from automl.backbones.weights import locate
from automl.config import find_space, load_config
from automl.data import build_cache, prepare
from automl.demo import write_manifest
from automl.paths import StudyFolder
from automl.search.spec import TrialSpec, make_spec
from automl.search.trial import load_dataset, prepare_process, run_trial, variant_of
from automl.space import make_space

BACKBONE = "timm/tf_efficientnet_lite0.in1k"
SEEDS = 3
RESULTS = Path(__file__).parent / "results" / "head-only.csv"


class ThroughTheBackbone(TrialSpec):
    """The same trial, as if features were not constants."""

    from_embeddings = False  # type: ignore[assignment]


def main() -> None:
    prepare_process(None)
    config, backbone = load_config(find_space("demo")), find(BACKBONE)
    with tempfile.TemporaryDirectory() as place:
        study = StudyFolder(Path(place) / "run")
        study.root.mkdir()
        data = {"background": config.data.background, "max_pixels": config.data.max_pixels}
        source = write_manifest(Path(place) / "data")
        prepare(source, seed=0, validation_fraction=0.15, test_fraction=0.15, **data).save(study.manifest, study.audit)
        dataset = load_dataset(study)
        build_cache(dataset.table, study.pixels, [variant_of(backbone, 224, config.data.crop_mode)], **data)
        params = {**default_params(backbone), "backbone": BACKBONE, "freeze_depth": 1.0, "augmentation": "none"}
        params |= {"resolution": 224, "batch_size": 32, "learning_rate": 0.01}
        seconds: dict[str, list[float]] = {"embeddings": [], "backbone": []}
        gaps, rows = [], []
        for seed in range(-1, SEEDS):  # the first one embeds
            spec = make_spec(
                params, config=config, space=make_space([BACKBONE], {}),
                weights={BACKBONE: str(locate(backbone).path)}, balanced=False, root=seed + 1,
            )  # fmt: skip
            found = {}
            for number, (kind, wanted) in enumerate(
                {"embeddings": spec, "backbone": ThroughTheBackbone(**asdict(spec))}.items()
            ):
                if seed < 0 and kind == "backbone":
                    continue
                facts: dict[str, float] = {}
                started = time.perf_counter()
                run_trial(
                    wanted, study, study.trial(10 * (seed + 1) + number), train_rows=dataset.rows("train"),
                    validation_rows=dataset.rows("validation"), report=facts.update,
                )  # fmt: skip
                found[kind] = facts["accuracy"]
                if seed >= 0:
                    seconds[kind].append(time.perf_counter() - started)
            if seed >= 0:
                gaps.append(100 * (found["embeddings"] - found["backbone"]))
                row = {f"{kind} {what}": round(value, 4) for kind in found
                       for what, value in (("accuracy", found[kind]), ("seconds", seconds[kind][-1]))}  # fmt: skip
                rows.append({"seed": seed, **row})
                print(f"seed {seed}: {found}, seconds {[round(each[-1], 2) for each in seconds.values()]}", flush=True)
        pd.DataFrame(rows).to_csv(RESULTS, index=False, lineterminator="\n")
        ratio = np.mean(seconds["backbone"]) / np.mean(seconds["embeddings"])
        print(f"1/{ratio:.0f} of the seconds; accuracy apart by at most {max(map(abs, gaps)):.2f} points")


if __name__ == "__main__":
    main()
