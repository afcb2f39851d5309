"""A trial that trains nothing and follows a script: for tests of everything that can go wrong around a trial.

The script is JSON in the study folder: steps by trial number, "*" for the numbers it does not name. Steps:

    ["report", 0.5]        an epoch with this value of every metric ("nan" for NaN)
    ["checkpoint"]         the epoch before has written a checkpoint; a trial that finds one goes on behind it
    ["work", 0.06]         the seconds of an epoch; written down first (`worked`), so that lost work can be counted
    ["exit", 7]            the worker process ends at once
    ["raise", "message"]   a RuntimeError
    ["full"]               what `write_atomic` raises when a disk is full
    ["oom"]                what torch raises when a GPU is full
    ["diverge"]            end as diverged
    ["hang", "name"]       wait until the test lets it go (`Gate`)

A trial that goes on from a checkpoint skips the steps up to the one that wrote it, where its script has `work`.
A trial that reaches the end of its script is complete. Each leaves `call.json`: what it was asked to do.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from automl.errors import OutputError
from automl.paths import StudyFolder, TrialFolder, write_atomic
from automl.search.spec import TrialSpec
from automl.training import Outcome

Step = list[Any]


def write_script(folder: StudyFolder, steps: dict[str, list[Step]]) -> None:
    """Say what the trials of `folder` will do."""
    (folder.root / "script.json").write_text(json.dumps(steps))


def calls(folder: StudyFolder) -> dict[int, dict[str, Any]]:
    """What each trial was asked to do, by number."""
    found = sorted((folder.root / "trials").glob("*/call.json"))
    return {int(path.parent.name): json.loads(path.read_text()) for path in found}


def worked(folder: StudyFolder) -> dict[int, list[int]]:
    """The epochs that were begun, by trial number, in order."""
    epochs = defaultdict(list)
    for line in _work_log(folder).read_text().splitlines() if _work_log(folder).exists() else []:
        number, epoch = map(int, line.split())
        epochs[number].append(epoch)
    return dict(epochs)


def _work_log(folder: StudyFolder) -> Path:
    return folder.root / "worked.txt"


class Gate:
    """Two named pipes: one tells the test that a trial has got to a step, the other lets the trial go on."""

    def __init__(self, folder: StudyFolder, name: str) -> None:
        self.reached, self.released = (folder.root / f"{name}.{end}" for end in ("reached", "released"))

    def create(self) -> Gate:
        os.mkfifo(self.reached)
        os.mkfifo(self.released)
        return self

    def wait(self) -> None:
        """Return when a trial hangs at the gate."""
        self.reached.read_text()

    def release(self) -> None:
        self.released.write_text("go")

    def hang(self) -> None:
        self.reached.write_text("here")
        self.released.read_text()


def run_script(
    spec: TrialSpec,
    study: StudyFolder,
    folder: TrialFolder,
    *,
    train_rows: npt.NDArray[np.int64],
    validation_rows: npt.NDArray[np.int64],
    time_limit: float = math.inf,
    report: Callable[[dict[str, Any]], None] = lambda facts: None,
) -> Outcome:
    """Do what the study's script says for the trial of `folder`. Signature as `search.trial.run_trial`."""
    number = int(folder.root.name)
    script = json.loads((study.root / "script.json").read_text())
    steps: list[Step] = script.get(str(number), script.get("*", []))
    folder.root.mkdir(parents=True, exist_ok=True)
    epoch = json.loads(folder.checkpoint.read_text())["epoch"] if folder.checkpoint.exists() else 0
    rows = (train_rows.tolist(), validation_rows.tolist())
    (folder.root / "call.json").write_text(
        json.dumps({"seed": spec.seed, "from_epoch": epoch, "time_limit": time_limit, "pid": os.getpid(), "rows": rows})
    )
    lines = folder.metrics.read_text().splitlines(keepends=True)[:epoch] if epoch else []
    if ["checkpoint"] in steps and any(name == "work" for name, *_ in steps):
        steps = _after(steps, epoch)
    for (name, *arguments), (following, *_) in zip(steps, [*steps[1:], ["end"]], strict=True):
        if name == "report":
            epoch += 1
            metrics = dict.fromkeys(("accuracy", "macro_f1", "log_loss"), float(arguments[0]))
            facts = {"epoch": epoch, "train_loss": 1 / epoch, "learning_rate": 1e-3, "seconds": float(epoch), **metrics}
            lines.append(json.dumps(facts) + "\n")
            write_atomic(folder.metrics, "".join(lines))
            if following == "checkpoint":  # before the report, which may be the last
                write_atomic(folder.checkpoint, json.dumps({"epoch": epoch}))
            report({**facts, "metrics": metrics, "peak_memory_mb": 64.0, "host": "here", "device": "cpu"})
        elif name == "checkpoint":
            pass
        elif name == "work":
            with open(_work_log(study), "a") as log:  # whole lines: one write, at the end
                log.write(f"{number} {epoch + 1}\n")
            time.sleep(arguments[0])
        elif name == "exit":
            os._exit(arguments[0])
        elif name == "raise":
            raise RuntimeError(arguments[0])
        elif name == "full":
            raise OutputError(f"cannot write 1234 bytes to {folder.checkpoint}: No space left on device; free space")
        elif name == "oom":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        elif name == "diverge":
            return Outcome("diverged", epoch, float(epoch), nn.Identity())
        elif name == "hang":
            Gate(study, arguments[0]).hang()
        else:
            raise ValueError(f"unknown step {name}")
    return Outcome("complete", epoch, float(epoch), nn.Identity())


def _after(steps: list[Step], epoch: int) -> list[Step]:
    """What is left of `steps` behind the report of `epoch`."""
    reports = [index for index, (name, *_) in enumerate(steps) if name == "report"]
    return steps[reports[epoch - 1] + 1 :] if epoch else steps
