"""What to hand over after the search: the best trial as it is, its configuration trained anew on train + validation, or
the trial itself trained on?

    python -m benchmarks.training_on --work data/training-on      (needs conformal-clip-data, dataset-fashion-mnist)

EfficientNet-Lite0, the program's sound default (four epochs), everything trainable. For each set and seed: a trial on
the training images; a refit, from the pretrained weights on training + validation images with the same seed; and from
the trial's weights on training + validation images for one, two and four more epochs, at the trial's learning rate and
at fractions of it. All are scored on test images that none has seen. Rows go to `results/training-on.csv`; one that is
there is not made again. Accuracies hardly depend on what else the machine does; seconds do.

Measured, mean test accuracy of two seeds of textile (224 px) and three of the others (96 px):

    handed over                 textile   Fashion-MNIST   digits
    own weights                 0.990     0.867           0.976
    refit                       0.993     0.864           0.984
    2 more, 0.25 of the rate    0.993     0.874           0.985    better than own weights in 8 of 8
    4 more, 0.5 of the rate     0.992     0.885           0.985    in 8 of 8
    2 more, 1 of the rate       0.990     0.859           0.981    in 3 of 8

Two more epochs at a quarter of the rate are what `automl` does where the time for a refit is missing and that for half
of its epochs is there (`refit.RATE_ON`).
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from automl.backbones import default_params, find
from automl.backbones.weights import locate
from automl.config import find_space, load_config
from automl.data import Batches, build_cache, open_cache, prepare
from automl.paths import StudyFolder, TrialFolder
from automl.search.spec import TrialSpec, make_spec
from automl.search.trial import load_dataset, prepare_process, run_trial, variant_of
from automl.space import make_space
from automl.training import Normalise, choose_device, choose_precision, predict_logits
from benchmarks.fashion_mnist import write as write_fashion_mnist
from benchmarks.proxies.sets import images_of
from benchmarks.tables import markdown, merge

BACKBONE = "timm/tf_efficientnet_lite0.in1k"
SETS = {"textile": (224, 480, 120), "fashion-mnist": (96, 800, 200), "digits": (96, 400, 100)}
TEST = {"textile": 1000, "fashion-mnist": 1000, "digits": 1000}  # images
ON = [(1, 0.5), (2, 0.5), (4, 0.5), (2, 0.25), (2, 1.0)]  # more epochs, and the factor on the learning rate
RESULTS = Path(__file__).parent / "results"


def images_drawn(name: str, count: int, seed: int, source: Path) -> pd.DataFrame:
    if name != "fashion-mnist":
        return images_of(name, source).sample(count, random_state=seed)
    write_fashion_mnist(source, count, seed=seed)
    table = pd.read_csv(source / "manifest.csv")
    return table.assign(path=[str(source / each) for each in table["path"]])


def study_of(name: str, seed: int, work: Path) -> tuple[StudyFolder, TrialSpec]:
    """Write the images of `name` drawn by `seed`, as a study that trials can be run in."""
    resolution, train, validation = SETS[name]
    config, backbone = load_config(find_space("demo")), find(BACKBONE)
    study = StudyFolder((work / f"{name}-{seed}").resolve())
    study.root.mkdir(parents=True, exist_ok=True)
    data = {"background": config.data.background, "max_pixels": config.data.max_pixels}
    if not study.manifest.exists():
        count = train + validation + TEST[name]
        images = images_drawn(name, count, seed, work.resolve() / f"source-{seed}")
        images["split"] = np.repeat(["train", "validation", "test"], [train, validation, TEST[name]])
        images.to_csv(study.root / "images.csv", index=False)
        made = prepare(study.root / "images.csv", seed=seed, validation_fraction=0.2, test_fraction=0.2, **data)
        made.save(study.manifest, study.audit)
    variant = variant_of(backbone, resolution, config.data.crop_mode)
    build_cache(load_dataset(study).table, study.pixels, [variant], **data)
    params = {**default_params(backbone), "backbone": BACKBONE, "freeze_depth": 0.0, "augmentation": "none"}
    params |= {"resolution": resolution, "batch_size": 16, "label_smoothing": 0.1}
    spec = make_spec(
        params, config=config, space=make_space([BACKBONE], {}), weights={BACKBONE: str(locate(backbone).path)},
        balanced=False, root=seed,
    )  # fmt: skip
    return study, spec


def trained(
    study: StudyFolder, spec: TrialSpec, folder: TrialFolder, *splits: str, start_from: Path | None = None
) -> tuple[float, float]:
    """Train on `splits`. Returns the test accuracy and the seconds."""
    dataset = load_dataset(study)
    rows = np.sort(np.concatenate([dataset.rows(each) for each in splits]))
    held_out = dataset.rows("validation") if splits == ("train",) else np.empty(0, np.int64)
    started = time.monotonic()
    outcome = run_trial(
        spec, study, folder, train_rows=rows, validation_rows=held_out, start_from=start_from, keep_checkpoint=False
    )
    seconds = time.monotonic() - started
    backbone, (device, _) = find(spec.backbone), choose_device()
    array = open_cache(
        dataset.table, study.pixels, variant_of(backbone, spec.resolution, spec.crop_mode), background=spec.background
    )
    targets, test = dataset.table["target"].to_numpy(np.int64), dataset.rows("test")
    logits = predict_logits(
        outcome.model, Batches(array, targets, test, batch_size=64, device=device),
        normalise=Normalise(backbone.mean, backbone.std).to(device), precision=choose_precision(device),
    )  # fmt: skip
    return float((logits.argmax(1) == targets[test]).mean()), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    prepare_process(None)
    out = RESULTS / "training-on.csv"
    out.parent.mkdir(exist_ok=True)
    for seed in given.seeds:
        for name in given.sets:
            known = pd.read_csv(out) if out.exists() else pd.DataFrame(columns=["set", "seed"])
            if ((known["set"] == name) & (known["seed"] == seed)).any():
                continue
            study, spec = study_of(name, seed, given.work)
            rows = [("own weights", *trained(study, spec, study.trial(0), "train"))]
            rows.append(("refit", *trained(study, spec, study.trial(1), "train", "validation")))
            for epochs, factor in ON:
                on = replace(spec, epochs=epochs, learning_rate=factor * spec.learning_rate, warmup_epochs=epochs / 4)
                how = f"{epochs} more, {factor:g} of the rate"
                found = trained(study, on, study.trial(2), "train", "validation", start_from=study.trial(0).weights)
                rows.append((how, *found))
            table = pd.DataFrame(rows, columns=["handed_over", "test_accuracy", "seconds"]).round(4)
            merge(out, table.assign(set=name, seed=seed), ["set", "seed", "handed_over"])
            print(table.assign(set=name, seed=seed).to_string(index=False), flush=True)
    table = pd.read_csv(out)
    means = table.pivot_table(index="handed_over", columns="set", values="test_accuracy", sort=False).round(4)
    print(markdown(means.reset_index()))


if __name__ == "__main__":
    main()
