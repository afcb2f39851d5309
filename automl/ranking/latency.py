"""Latency of the backbones as the screening measured it: one image and a batch, on a device that has a name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typing_extensions import TypedDict

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.files import load_screening

__all__ = ["COLUMNS", "Latency", "Speed", "flat", "in_words", "legend", "load_speeds"]

COLUMNS = ("latency_p95_ms", "latency_batch_images", "latency_batch_ms", "latency_batch_p95_ms", "latency_device")


class Latency(TypedDict):
    """Milliseconds of a batch of so many images: median and 95th percentile of so many passes."""

    images: int
    median_ms: float
    p95_ms: float
    passes: int


class Speed(TypedDict):
    """Latency of one image and of a batch on a device; `automl.screening.Speed` as JSON has it."""

    device: str
    precision: str
    one: Latency
    batch: Latency


def load_speeds(folder: StudyFolder) -> dict[tuple[str, int], Speed]:
    """Return what was measured by backbone and resolution; what is missing or of another shape is left out."""
    found: dict[tuple[str, int], Speed] = {}
    for each in load_screening(folder):
        try:
            for side, speed in each["speeds"].items():
                if flat(speed) and speed["one"]["median_ms"] > 0:
                    found[str(each["backbone"]), int(side)] = speed
        except (LookupError, TypeError, ValueError, AttributeError):
            continue
    return found


def flat(speed: Speed | None) -> dict[str, Any]:
    """Return the measurement but for the median of one image by `COLUMNS`."""
    if speed is None:
        return {}
    one, batch = speed["one"], speed["batch"]
    values = (one["p95_ms"], batch["images"], batch["median_ms"], batch["p95_ms"], speed["device"])
    return dict(zip(COLUMNS, values, strict=True))


def in_words(speed: Speed | None) -> str:
    """Return all of it but the median of one image: ``95 % within 9.4 ms; 8 images 53.0 ms, …; CPU, 2 threads``."""
    if speed is None:
        return ""
    one, batch = speed["one"], speed["batch"]
    together = words.count(batch["images"], "image")
    return (
        f"95 % within {words.milliseconds(one['p95_ms'])}; {together} {words.milliseconds(batch['median_ms'])}, "
        f"95 % within {words.milliseconds(batch['p95_ms'])}; {speed['device']}"
    )


def legend(speeds: Iterable[Speed | None]) -> str:
    """Say what the latency of a table is, and on which devices it was measured; nothing where that is not known."""
    devices = dict.fromkeys(str(each["device"]) for each in speeds if each is not None)
    if not devices:
        return ""
    return (
        f"latency: of one image, the median, on {' and '.join(devices)}; the 95th percentile and that of a batch are "
        "in the CSV and the JSON."
    )
