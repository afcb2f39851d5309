"""Time `fine_tune` against a bare loop over resident tensors: same model, optimizer, batch, memory format, precision.

    python benchmarks/training_loop.py [--backbone NAME] [--resolution 224] [--images 128] [--batch-size 16]
                                       [--rounds 5] [--depth 0.0] [--threads N] [--cpu-time] [--settings chosen|all]

The bare loop is what anybody would write first: normalised float batches that already lie on the device, forward,
cross-entropy, backward, AdamW. `fine_tune` shuffles and copies uint8 pixels, normalises them, sets the learning rate,
clips gradients, counts the loss and looks at the clock; its time is the training part of an epoch, which is what it
reports itself. Both run in turn in one process, and each rate is the median over the rounds (one more warms up).

With `--settings all` the same is repeated in a child process for each choice that this project makes by itself: the C
library keeps its buffers by the environment of the process, by `keep_buffers`, or not (CPU only), in float32 and in
bfloat16. The child measures in a second thread, as a Ray worker trains. Weights and pixels are random: speed does not
depend on them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from automl import backbones
from automl.training import (
    KEPT_BUFFERS,
    Epoch,
    Normalise,
    Precision,
    choose_device,
    choose_precision,
    fine_tune,
    keep_buffers,
)
from automl.training.optim import make_optimizer

CLASSES = 10
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.05


def bare_loop(
    model: nn.Module,
    batches: list[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
    precision: Precision,
    clock: Callable[[], float],
) -> float:
    """Return the seconds of one pass over `batches`."""
    groups = backbones.parameter_groups(model, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, layer_decay=1.0)
    optimizer = make_optimizer("adamw", groups)
    backbones.set_train_mode(model)
    wait(device)
    started = clock()
    for images, targets in batches:
        with torch.autocast(device.type, precision.autocast, enabled=precision.autocast is not None):
            loss = functional.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    wait(device)
    return clock() - started


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def compare(given: argparse.Namespace, precision: Precision, device: torch.device) -> dict[str, float]:
    """Return images per second of both loops, and the median of their ratio by round."""
    backbone = backbones.find(given.backbone)
    torch.manual_seed(0)
    model = backbones.build(backbone, CLASSES, resolution=given.resolution, weights=None).to(device)
    backbones.freeze(model, given.depth)
    model.to(memory_format=torch.channels_last)
    random = np.random.default_rng(0)
    array = random.integers(0, 256, (given.images, given.resolution, given.resolution, 3), dtype=np.uint8)
    targets = random.integers(0, CLASSES, given.images)
    normalise = Normalise(backbone.mean, backbone.std).to(device)
    pixels = normalise(torch.from_numpy(array).permute(0, 3, 1, 2).to(device))
    labels = torch.from_numpy(targets).to(device)
    size = given.batch_size
    batches = [(pixels[at : at + size], labels[at : at + size]) for at in range(0, given.images, size)]

    clock = time.process_time if given.cpu_time else time.perf_counter

    def ours() -> float:
        epochs: list[Epoch] = []
        fine_tune(
            model, array, targets, train_rows=np.arange(given.images), validation_rows=np.arange(0), classes=CLASSES,
            mean=backbone.mean, std=backbone.std, device=device, precision=precision, seed=0, epochs=1,
            batch_size=size, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY, report=epochs.append, clock=clock,
        )  # fmt: skip
        return epochs[0].seconds

    loops: dict[str, Callable[[], float]] = {
        "bare": lambda: bare_loop(model, batches, device, precision, clock),
        "fine_tune": ours,
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(given.rounds + 1):
        for name in sorted(loops, reverse=number % 2 == 1):
            taken = loops[name]()
            if number:
                seconds[name].append(taken)
    rates = {name: given.images / statistics.median(taken) for name, taken in seconds.items()}
    ratios = [bare / own for bare, own in zip(seconds["bare"], seconds["fine_tune"], strict=True)]
    return {**rates, "ratio": statistics.median(ratios)}


def in_child(kept: str, dtype: str) -> dict[str, float]:
    """Measure in a fresh process, as the C library's settings hold for the life of one."""
    command = [sys.executable, *sys.argv, "--child", json.dumps([kept, dtype])]
    environment = {**os.environ, **(KEPT_BUFFERS if kept == "environment" else {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    rates: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="timm/tf_efficientnet_lite0.in1k")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--images", type=int, default=128, help="images of one pass; a multiple of the batch is fair")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depth", type=float, default=0.0, help="freeze depth, 0 to below 1")
    parser.add_argument("--threads", type=int, help="CPU threads of an operation")
    parser.add_argument(
        "--cpu-time", action="store_true", help="CPU seconds, for a machine that is also used by others"
    )
    parser.add_argument("--settings", choices=("chosen", "all"), default="chosen")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.backends.cudnn.benchmark = True
    if given.child:
        kept, dtype = given.child
        if kept == "keep_buffers":
            keep_buffers()
        autocast = torch.bfloat16 if dtype == "bfloat16" else None
        with ThreadPoolExecutor(1) as thread:
            rates = thread.submit(compare, given, Precision(autocast, True, "asked for"), choose_device()[0]).result()
        print(json.dumps(rates))
        return

    device, _ = choose_device()
    chosen = ("environment", choose_precision(device).name)
    settings = [chosen]
    if given.settings == "all":
        ways = ("environment", "keep_buffers", "no") if device.type == "cpu" else ("environment",)
        others = [(kept, dtype) for dtype in ("float32", "bfloat16") for kept in ways]
        settings += [each for each in others if each != chosen]
    table = Table(
        title=f"{given.backbone} at {given.resolution} px, batches of {given.batch_size}, {given.images} images"
    )
    for heading in ("precision", "buffers kept", "bare loop, images/s", "fine_tune, images/s", "ratio"):
        table.add_column(heading, justify="right")
    for kept, dtype in settings:
        rates = in_child(kept, dtype)
        note = " (chosen)" if (kept, dtype) == chosen else ""
        numbers = (f"{rates['bare']:,.1f}", f"{rates['fine_tune']:,.1f}", f"{rates['ratio']:.3f}")
        table.add_row(dtype + note, kept, *numbers)
    console = Console()
    console.print(table)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    console.print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}; target ratio: 0.95")


if __name__ == "__main__":
    main()
