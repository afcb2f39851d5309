"""Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927)."""

from __future__ import annotations

from typing import Any

import numpy as np

from automl.ranking.statistics.predictions import Floats

__all__ = ["Z95", "wilson", "wilson_limits"]

Z95 = 1.959963984540054


def wilson(successes: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share: ``(low, high)`` in [0, 1]; ``(0, 1)`` for n = 0."""
    if n <= 0:
        return 0.0, 1.0
    low, high = wilson_limits(np.float64(successes / n), np.float64(n), z)
    return float(low), float(high)


def wilson_limits(shares: Any, n: Any, z: Any = Z95) -> tuple[Floats, Floats]:
    """`wilson` of arrays of shares (0…1) and numbers of images, which need not be whole."""
    shrink = 1 + z * z / n
    centre = (shares + z * z / (2 * n)) / shrink
    half = z / shrink * np.sqrt(shares * (1 - shares) / n + z * z / (4 * n * n))
    low, high = np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)
    return np.where(shares <= 0, 0.0, low), np.where(shares >= 1, 1.0, high)
