"""Latency of the backbones as the screening measured it: one image and a batch, on a device that has a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from automl.paths import StudyFolder
from automl.ranking import words
from automl.ranking.files import load_json

__all__ = ["flat", "in_words", "legend", "load_speeds"]

Speed = Mapping[str, Any]  # of `automl.screening.Speed.to_dict`


def load_speeds(folder: StudyFolder) -> dict[tuple[str, int], Speed]:
    """Return what was measured by backbone and resolution; what is missing or of another shape is left out."""
    found: dict[tuple[str, int], Speed] = {}
    screened = (load_json(folder.plan) or {}).get("screening")
    for each in screened if isinstance(screened, list) else ():
        try:
            for side, speed in each["speeds"].items():
                if flat(speed):
                    found[each["backbone"], int(side)] = speed
        except (LookupError, TypeError, ValueError, AttributeError):
            continue
    return found


def flat(speed: Speed | None) -> dict[str, Any]:
    """Return the measurement but for the median of one image as columns of a table."""
    if speed is None:
        return {}
    one, batch = speed["one"], speed["batch"]
    return {
        "latency_p95_ms": float(one["p95_ms"]),
        "latency_batch_images": int(batch["images"]),
        "latency_batch_ms": float(batch["median_ms"]),
        "latency_batch_p95_ms": float(batch["p95_ms"]),
        "latency_device": str(speed["device"]),
    }


def in_words(speed: Speed | None) -> str:
    """Return all of it but the median of one image: ``95 % within 9.4 ms; 8 images 53.0 ms, …; CPU, 2 threads``."""
    if speed is None:
        return ""
    at = flat(speed)
    one, batch, most = (
        words.milliseconds(at[name]) for name in ("latency_p95_ms", "latency_batch_ms", "latency_batch_p95_ms")
    )
    together = words.count(at["latency_batch_images"], "image")
    return f"95 % within {one}; {together} {batch}, 95 % within {most}; {at['latency_device']}"


def legend(speeds: Iterable[Speed | None]) -> str:
    """Say what the latency of a table is, and on which devices it was measured; nothing where that is not known."""
    devices = dict.fromkeys(str(each["device"]) for each in speeds if each is not None)
    if not devices:
        return ""
    return (
        f"latency: of one image, the median, on {' and '.join(devices)}; the 95th percentile and that of a batch are "
        "in the CSV and the JSON."
    )
