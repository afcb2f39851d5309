"""Is a training step quicker in bfloat16 or in float32 on this machine, for which backbones, frozen how far?

    python -m benchmarks.precision                (about five minutes on two cores)

A step is 16 images of 224 px, random weights, channels_last, forward, backward and AdamW's update; of four steps in
each of two rounds, in turns, the fastest counts. A row per backbone and freeze depth goes to `results/precision.csv`.

On two cores of an Intel Xeon with AMX, where `automl` chooses bfloat16, it took 0.3 to 2.1 times as long as float32:
less for ResNet, RegNet and ViT, more for EfficientNet-Lite and MobileNetV3 where all or half of them trains. `automl`
decides by a step half of which trains; of these eight that is wrong for ConvNeXt-atto alone, which stays in bfloat16
(0.87) and would be quicker in float32 whole (1.11) and with a quarter (1.29).
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from automl.backbones import build, find
from automl.paths import write_atomic
from automl.screening.feasibility import training_step
from automl.screening.latency import timed
from automl.training import Precision
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results" / "precision.csv"
BACKBONES = (
    *("timm/tf_efficientnet_lite0.in1k", "timm/tf_efficientnet_lite2.in1k", "timm/mobilenetv3_small_100.lamb_in1k"),
    *("timm/mobilenetv2_100.ra_in1k", "timm/convnext_atto.d2_in1k", "timm/regnety_004.pycls_in1k"),
    *("timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k", "timm/resnet50.a1_in1k"),
)
CPU = torch.device("cpu")
BFLOAT16 = Precision(torch.bfloat16, True, "compared")
FLOAT32 = Precision(None, True, "compared")
DEPTHS, SIDE, BATCH, STEPS, ROUNDS = (0.0, 0.5, 0.75), 224, 16, 4, 2


def step_seconds(name: str, depth: float, precision: Precision) -> float:
    """Return the seconds of the fastest of some training steps on the CPU."""
    model = build(find(name), 3, resolution=SIDE, weights=None).to(memory_format=torch.channels_last)

    def images(count: int) -> torch.Tensor:
        return torch.randn(count, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)

    step = training_step(model, depth, images, precision=precision, device=CPU)
    return min(timed(partial(step, BATCH, True), CPU, time.perf_counter) for _ in range(STEPS))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for name in BACKBONES:
        for depth in DEPTHS:
            rounds = [[step_seconds(name, depth, each) for each in (BFLOAT16, FLOAT32)] for _ in range(ROUNDS)]
            low, full = (min(each) for each in zip(*rounds, strict=True))
            rows.append((name, depth, round(low, 3), round(full, 3), round(low / full, 2)))
    columns = ["backbone", "freeze_depth", "bfloat16_seconds", "float32_seconds", "ratio"]
    table = pd.DataFrame(rows, columns=columns)
    write_atomic(RESULTS, table.to_csv(index=False))
    print(markdown(table))


if __name__ == "__main__":
    main()
