"""Intervals of what the package scored on the test images, from the predictions that the refit keeps of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from automl.paths import StudyFolder
from automl.ranking.files import read_predictions
from automl.ranking.statistics import METRICS, interval, score

__all__ = ["with_intervals"]


def with_intervals(
    folder: StudyFolder, refit: Mapping[str, Any], metric: str, groups: NDArray[Any] | None
) -> dict[str, Any]:
    """Return the content of ``metrics.json`` with ``test.ci95`` of the accuracy by groups, where images have some, and
    with ``test.metric_ci95`` of `metric`, and that itself where the package did not measure it; as it is where the
    predictions are not there or are not those of its score.

    Args:
        groups: Group of every row of the manifest.
    """
    test, said = refit["test"], read_predictions(folder.test_logits, groups)
    if said is None or int((said.labels == said.targets).sum()) != test.get("correct"):
        return dict(refit)
    accuracy = interval("accuracy", said)
    found = {"ci95": [accuracy.low, accuracy.high], "ci_method": accuracy.method}
    if metric in METRICS:
        value = score(metric, said)
        if not math.isfinite(value):  # AUROC of one class
            return {**refit, "test": {**{name: test[name] for name in test if name != metric}, **found}}
        other = interval(metric, said)
        found |= {"metric": metric, "metric_ci95": [other.low, other.high], "metric_ci_method": other.method}
        test = {metric: value, **test}
    return {**refit, "test": {**test, **found}}
