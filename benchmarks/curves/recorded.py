"""The curves that `record.py` wrote, worlds made of them for samplers to search, and plots of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm, spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import Ridge

from automl.config import load_config
from automl.search.spec import trains_on_embeddings
from automl.space import Space, make_space

HERE = Path(__file__).parent
SETS = ("textile", "fashion-mnist")
VALIDATION_IMAGES = 200  # as `record.SIZES` has it
EPOCHS = 6  # of each recorded trial
CHANCE = 0.1  # accuracy that the regressions give a diverged configuration
COLOURS = ("#888888", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#000000")

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """One configuration trained in full.

    values, losses: validation accuracy and log loss after each epoch; end early where the configuration diverged.
    seconds: of each epoch, one more than `values` where the last one diverged.
    test: accuracy on held-out images after the last epoch; 0 where it diverged.
    """

    configuration: int
    params: Params
    values: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    test: float

    @property
    def diverged(self) -> bool:
        return len(self.seconds) > len(self.values)

    @property
    def final(self) -> float:
        """Accuracy of the refit: what the last epoch reached, 0 where it diverged."""
        return 0.0 if self.diverged else self.values[-1]

    @property
    def head_only(self) -> bool:
        """Whether it trains on cached features; the search never stops such a trial early."""
        return trains_on_embeddings({"mixup": 0.0, "cutmix": 0.0, **self.params})


def load_curves(name: str, folder: Path = HERE) -> list[Curve]:
    """Read `<folder>/<name>.csv`."""
    table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
    names = list(table.columns[1 : list(table.columns).index("epoch")])
    curves = []
    for configuration, rows in table.groupby("configuration"):
        measured = rows.dropna(subset=["accuracy"])
        test = rows["test_accuracy"].iloc[-1]
        curves.append(
            Curve(
                int(configuration),
                {each: rows[each].iloc[0] for each in names},
                tuple(measured["accuracy"]),
                tuple(measured["log_loss"]),
                tuple(np.diff(rows["cpu_seconds"], prepend=0.0)),
                0.0 if np.isnan(test) else float(test),
            )
        )
    return curves


def slow_warmers(seed: int, configurations: int = 40) -> list[Curve]:
    """Simulate a set in which the best of three backbones warms up most slowly: what an early comparison across
    backbones gets wrong. Accuracy approaches its final value exponentially, with the noise of 200 images."""
    rng = np.random.default_rng(seed)
    curves = []
    for number in range(configurations):
        backbone, depth = int(rng.integers(3)), float(rng.choice([0.0, 0.25, 0.5, 0.75]))
        low, high, epochs = ((0.60, 0.90, 0.6), (0.60, 0.92, 1.0), (0.65, 0.97, 2.2))[backbone]
        final = low + (high - low) * rng.beta(2, 2) - 0.03 * (depth == 0.75)
        warming = epochs * (0.5 if depth == 0.75 else 1.0)
        reached = (1 - np.exp(-np.arange(1, 7) / warming)) / (1 - np.exp(-6 / warming))
        values = np.clip(final * reached + rng.normal(0, 0.015, 6), 0, 1)
        params = {"backbone": f"backbone {backbone}", "freeze_depth": depth, "resolution": 224, "augmentation": "light"}
        curves.append(Curve(number, params, tuple(values), tuple(1 - values), (10.0,) * 6, float(values[-1])))
    return curves


def load_space(name: str) -> Space:
    """Return the search space that the configurations of set `name` were drawn from."""
    config = load_config(HERE / f"{name}.yaml")
    return make_space([each.name for each in config.backbones], config.params)


def features(points: Sequence[Params], space: Space) -> np.ndarray:
    """Return one row of numbers for each point, freeze depth, resolution and learning rate last."""
    names = [(name, choice) for name in ("backbone", "augmentation") for choice in space.choices(name)]
    columns = [[each[name] == choice for each in points] for name, choice in names]
    columns.append([each["freeze_depth"] == 1.0 for each in points])
    columns.append([each["freeze_depth"] for each in points])
    columns.append([each["resolution"] == max(space.choices("resolution")) for each in points])
    columns.append([np.log10(each["learning_rate"]) + 3 for each in points])
    return np.array(columns, dtype=float).T


def points_of(space: Space, count: int, seed: int) -> list[Params]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask(space.distributions).params for _ in range(count)]


def is_head_only(params: Params) -> bool:
    return Curve(0, params, (), (), (), 0.0).head_only


class Cost:
    """Predicted seconds of trials in full, and `error`, the standard deviation of the logarithm around it."""

    def __init__(self, curves: Sequence[Curve], space: Space) -> None:
        self.space = space
        heads = [sum(each.seconds) for each in curves if each.head_only]
        self.head_seconds = float(np.median(heads)) if heads else 1.0
        rest = [each for each in curves if not each.head_only and not each.diverged]
        points, seconds = [each.params for each in rest], np.log([sum(each.seconds) for each in rest])
        self.ridge = Ridge(1e-2).fit(self._columns(points), seconds)
        self.error = float((seconds - self.ridge.predict(self._columns(points))).std())

    def _columns(self, points: Sequence[Params]) -> np.ndarray:
        known = features(points, self.space)[:, :-1]  # the learning rate costs nothing
        depth, side = known[:, -2:-1], known[:, -1:]
        return np.hstack([known, depth**2, depth * side])

    def __call__(self, points: Sequence[Params]) -> np.ndarray:
        heads = [is_head_only(each) for each in points]
        return np.where(heads, self.head_seconds, np.exp(self.ridge.predict(self._columns(points))))


class Regressor(Protocol):
    def fit(self, x: np.ndarray, y: np.ndarray) -> Any: ...
    def predict(self, x: np.ndarray) -> np.ndarray: ...


def gp(columns: int) -> Regressor:
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(np.full(columns, 2.0), (0.3, 30.0), nu=2.5)
    return GaussianProcessRegressor(kernel + WhiteKernel(0.1, (1e-3, 1.0)), normalize_y=True, random_state=0)


def trees(columns: int) -> Regressor:
    return ExtraTreesRegressor(100, random_state=0)


def log_odds(curve: Curve, epochs: int) -> np.ndarray:
    values = [*curve.values, *[CHANCE] * (epochs - len(curve.values))]
    return logit(np.clip(values, 0.5 / VALIDATION_IMAGES, 1 - 0.5 / VALIDATION_IMAGES))


class Surrogate:
    """A world with a curve at every point of the space, measured on 200 images, some of which are hard for all."""

    def __init__(self, curves: Sequence[Curve], space: Space, make: Callable[[int], Regressor]) -> None:
        self.space, self.cost = space, Cost(curves, space)
        self.epochs = max(len(each.values) for each in curves)
        points = [each.params for each in curves]
        x, y = features(points, space), np.array([log_odds(each, self.epochs) for each in curves])
        self.regressor = make(x.shape[1]).fit(x, y)
        self.best = float(self.truth([*points_of(space, 5000, 0), *points])[:, -1].max())
        held_out = np.zeros_like(y)
        for fold in range(8):
            out = np.arange(len(y)) % 8 == fold
            held_out[out] = make(x.shape[1]).fit(x[~out], y[~out]).predict(x[out])
        final, guess = expit(y[:, -1]), expit(held_out[:, -1])
        self.note = (
            f"best {self.best:.3f}; cross-validated final accuracy: mean absolute error "
            f"{np.abs(final - guess).mean():.3f}, rank correlation {spearmanr(final, guess)[0]:.2f}; "
            f"seconds ±{100 * self.cost.error:.0f} %"
        )

    def truth(self, points: Sequence[Params]) -> np.ndarray:
        """Return the true accuracy by point and epoch."""
        return expit(self.regressor.predict(features(points, self.space)))

    def start(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.hardness = self.rng.normal(size=VALIDATION_IMAGES)

    def run(self, params: Params) -> tuple[Curve, float] | None:
        """Return what a trial would measure, and its true final accuracy; None when the world is used up."""
        truth = self.truth([params])[0]
        luck = self.rng.normal(size=(self.epochs, VALIDATION_IMAGES))
        right = (self.hardness + luck) / np.sqrt(2) < norm.ppf(truth)[:, None]
        values = right.mean(axis=1)
        seconds = self.cost([params])[0] * np.exp(self.rng.normal() * self.cost.error) / self.epochs
        return Curve(0, params, tuple(values), (), (seconds,) * self.epochs, 0.0), float(truth[-1])


class Table:
    """A world of the recorded configurations alone, each used once."""

    def __init__(self, curves: Sequence[Curve], space: Space) -> None:
        self.curves, self.space, self.cost = curves, space, Cost(curves, space)
        self.epochs, self.best = max(len(each.values) for each in curves), max(each.final for each in curves)
        self.features = features([each.params for each in curves], space)
        self.note = f"best {self.best:.3f} of {len(curves)}"

    def start(self, seed: int) -> None:
        self.unused = np.ones(len(self.curves), dtype=bool)

    def run(self, params: Params) -> tuple[Curve, float] | None:
        if not self.unused.any():
            return None
        distance = np.abs(self.features - features([params], self.space)).sum(axis=1)
        nearest = int(np.where(self.unused, distance, np.inf).argmin())
        self.unused[nearest] = False
        return self.curves[nearest], self.curves[nearest].final


World = Surrogate | Table


def make_world(name: str, curves: Sequence[Curve], space: Space) -> World:
    """Return the world "gp", "trees" or "table" of `curves`."""
    return Table(curves, space) if name == "table" else Surrogate(curves, space, gp if name == "gp" else trees)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return mean and half width of its 95 % interval."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def line_chart(path: Path, series: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str, x: str, y: str) -> None:
    """Write an SVG of `series` (name → x, y), x from 0 and y on a logarithmic scale; values of 0 lie on the bottom."""
    width, height, left, top, right, bottom = 760, 420, 60, 34, 210, 44
    most = max(xs.max() for xs, _ in series.values())
    positive = np.concatenate([ys[ys > 0] for _, ys in series.values()])
    low, high = np.log10(max(positive.min(), 1e-3)), np.log10(positive.max())

    def at(px: float, py: float) -> tuple[float, float]:
        share = (np.log10(max(py, 10**low)) - low) / max(high - low, 1e-9)
        across, up = width - left - right, height - top - bottom
        return round(left + across * px / most, 1), round(height - bottom - up * share, 1)

    def text(px: float, py: float, words: str, anchor: str = "middle", extra: str = "") -> str:
        return f'<text x="{px}" y="{py}" text-anchor="{anchor}" {extra}>{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12" font-family="sans">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        text(left, 20, title, "start", 'font-weight="bold"'),
        text((left + width - right) / 2, height - 8, x),
        text(14, height / 2, y, extra=f'transform="rotate(-90 14 {height / 2})"'),
    ]
    for tick in [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]:
        if low - 1e-9 <= np.log10(tick) <= high + 1e-9:
            across, up = at(0, tick)
            parts.append(f'<path d="M{across} {up}H{width - right}" stroke="#ddd"/>')
            parts.append(text(across - 6, up + 4, f"{tick:g}", "end"))
    for tick in np.linspace(0, most, 6):
        parts.append(text(at(tick, 1)[0], height - bottom + 16, f"{tick:.3g}"))
    for number, (name, (xs, ys)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = 'stroke-dasharray="5 3"' if number >= len(COLOURS) else ""
        points = " ".join(f"{px},{py}" for px, py in (at(*each) for each in zip(xs, ys, strict=True)))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8" {dash}/>')
        beside = top + 14 + 18 * number
        parts.append(f'<path d="M{width - right + 10} {beside}h18" stroke="{colour}" stroke-width="3" {dash}/>')
        parts.append(text(width - right + 34, beside + 4, name, "start"))
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>", ""]))
