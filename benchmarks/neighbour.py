"""What one busy program beside it makes of a training step, by how long threads look on before they sleep.

    python -m benchmarks.neighbour            (five minutes on two cores; run nothing else)

A step of EfficientNet-Lite0, 16 images, on as many threads as there are processors, in a process of its own; the
neighbour counts in an endless loop, in a session of its own, to which Linux gives as much of the processors as to the
step's (sched_autogroup). Milliseconds are those of the median step. `spin` is GOMP_SPINCOUNT of libgomp, torch's OpenMP
runtime on Linux, whose default is 300,000; `automl` sets 3,000. A row per resolution and setting goes to
`results/neighbour.csv`: alone, the median of three rounds of all settings in turns; beside the neighbour, of one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from functools import partial
from pathlib import Path

import pandas as pd
import timm
import torch

from automl.paths import write_atomic
from automl.screening.feasibility import training_step
from automl.screening.latency import timed
from automl.training import KEPT_BUFFERS, Precision
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results" / "neighbour.csv"
SPINS, SIDES, ROUNDS, SECONDS, IMAGES = (300_000, 3_000, 300), (64, 224), 3, 4.0, 16
LOOP = "while True: pass"


def step_ms(side: int) -> float:
    """Return the milliseconds of the median training step, of as many as `SECONDS` has, three at least."""
    torch.set_num_threads(os.cpu_count() or 1)
    device, last = torch.device("cpu"), torch.channels_last
    model = timm.create_model("tf_efficientnet_lite0", num_classes=3).to(memory_format=last)
    step = training_step(
        model,
        0.0,
        lambda count: torch.randn(count, 3, side, side).contiguous(memory_format=last),
        precision=Precision(None, True, "compared"),
        device=device,
    )
    taken, started = list[float](), time.perf_counter()
    while len(taken) < 3 or time.perf_counter() - started < SECONDS:
        taken.append(1000 * timed(partial(step, IMAGES, True), device, time.perf_counter))
    return statistics.median(taken[1:])


def main() -> None:
    if len(sys.argv) > 1:
        print(step_ms(int(sys.argv[1])))
        return
    found = defaultdict[tuple[int, int, bool], list[float]](list)
    for busy in (False, True):
        neighbour = subprocess.Popen([sys.executable, "-c", LOOP], start_new_session=True) if busy else None
        try:
            for _ in range(1 if busy else ROUNDS):
                for side in SIDES:
                    for spin in SPINS:
                        ran = subprocess.run(
                            [sys.executable, "-m", "benchmarks.neighbour", str(side)],
                            env={**os.environ, **KEPT_BUFFERS, "GOMP_SPINCOUNT": str(spin)},
                            check=True, capture_output=True, text=True,
                        )  # fmt: skip
                        found[side, spin, busy].append(float(ran.stdout))
        finally:
            if neighbour is not None:
                neighbour.kill()
                neighbour.wait()
    rows = [
        {
            "resolution": side,
            "spin": spin,
            "alone_ms": round(statistics.median(found[side, spin, False]), 1),
            "beside_ms": round(statistics.median(found[side, spin, True]), 1),
        }
        for side in SIDES
        for spin in SPINS
    ]
    table = pd.DataFrame(rows)
    write_atomic(RESULTS, table.to_csv(index=False))
    print(markdown(table))


if __name__ == "__main__":
    main()
