"""How sure a score is: metrics, intervals, simultaneous comparisons with the best, and what picking the best explains.

Everything but the metrics themselves works on *contributions*: one number per image whose mean is the score and whose
spread says how the score varies with the images. They make one method of every kind, for every metric.
"""

from automl.ranking.statistics.comparison import Comparison, compare_with_best, difference
from automl.ranking.statistics.contributions import contributions
from automl.ranking.statistics.intervals import Interval, Limits, interval, limits, recall_limits
from automl.ranking.statistics.metrics import (
    METRICS,
    ClassScore,
    confusion,
    larger_is_better,
    per_class,
    score,
)
from automl.ranking.statistics.predictions import Predictions
from automl.ranking.statistics.repeats import (
    Repeats,
    compare_repeats,
    expected_of_pick,
    limits_of_pick,
    limits_of_repeats,
    of_both,
    pick,
)
from automl.ranking.statistics.selection import BestCorrected, correct_best
from automl.ranking.statistics.wilson import wilson

__all__ = [
    "METRICS",
    "BestCorrected",
    "ClassScore",
    "Comparison",
    "Interval",
    "Limits",
    "Predictions",
    "Repeats",
    "compare_repeats",
    "compare_with_best",
    "confusion",
    "contributions",
    "correct_best",
    "difference",
    "expected_of_pick",
    "interval",
    "larger_is_better",
    "limits",
    "limits_of_pick",
    "limits_of_repeats",
    "of_both",
    "per_class",
    "pick",
    "recall_limits",
    "score",
    "wilson",
]
