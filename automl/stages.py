"""The stages of the main job before and after the trials, each from values to values.

with_full_names → locate_weights → audit → decode_once → screen → (plan, trials)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from automl.backbones import check_readable, find, locate_all
from automl.config import SearchConfig
from automl.data import Dataset, build_cache, prepare
from automl.errors import ConfigError, NoTrialFinishedError, UsageError, last_line
from automl.paths import StudyFolder
from automl.screening import Choice
from automl.search.budget import Budget
from automl.search.cluster import Resources, each_task
from automl.search.plan import Screened
from automl.search.screen import measure_speeds, screen_backbone
from automl.search.spec import TrialSpec, default_resolution, effective_resolution, make_spec
from automl.search.trial import variant_of
from automl.space import Space, make_space

__all__ = [
    "Progress",
    "Screening",
    "audit",
    "check_screened",
    "decode_once",
    "locate_weights",
    "screen",
    "with_full_names",
]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
NO_TIME = "the time for the screening was over before its turn"


def with_full_names(config: SearchConfig) -> SearchConfig:
    """Give every backbone its full name; all unknown ones are reported together."""
    problems, choices = [], []
    for choice in config.backbones:
        try:
            choices.append(choice.model_copy(update={"name": find(choice.name).name}))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return config.model_copy(update={"backbones": choices})


def locate_weights(config: SearchConfig, weights_dir: Path | None) -> dict[str, str]:
    random = {choice.name: "none" for choice in config.backbones if choice.weights == "none"}
    wanted = [
        (find(choice.name), choice.weights if isinstance(choice.weights, Path) else None)
        for choice in config.backbones
        if choice.name not in random
    ]
    found = locate_all(wanted, weights_dir=weights_dir)
    for file in {file.path for file in found.values()}:
        check_readable(file)
    # Not resolved: a hub's cache links to files without a suffix, which says what kind of file it is.
    return random | {name: str(file.path.absolute()) for name, file in found.items()}


def audit(config: SearchConfig, folder: StudyFolder, progress: Progress) -> Dataset:
    if config.dataset is None:
        raise UsageError("no dataset given: automl search DATA")
    dataset = prepare(
        Path(config.dataset),
        seed=config.search.seed,
        validation_fraction=config.data.validation_fraction,
        test_fraction=config.data.test_fraction,
        background=config.data.background,
        max_pixels=config.data.max_pixels,
        progress=lambda done, total: progress("audit", done, total),
    )
    dataset.save(folder.manifest, folder.audit)
    return dataset


def resolutions_of(config: SearchConfig, space: Space) -> dict[str, list[int]]:
    """Every resolution that each backbone can be trained at in this space."""
    return {
        choice.name: sorted(
            {effective_resolution(find(choice.name), int(each)) for each in space.choices("resolution")}
        )
        for choice in config.backbones
    }


def decode_once(config: SearchConfig, folder: StudyFolder, dataset: Dataset, space: Space, progress: Progress) -> None:
    variants = {
        variant_of(find(name), resolution, config.data.crop_mode)
        for name, resolutions in resolutions_of(config, space).items()
        for resolution in resolutions
    }
    build_cache(
        dataset.table,
        folder.pixels,
        sorted(variants, key=lambda each: (each.resolution, each.interpolation)),
        background=config.data.background,
        max_pixels=config.data.max_pixels,
        progress=lambda done, total: progress("decode once", done, total),
    )


@dataclass(frozen=True)
class Screening:
    """What was screened, what is left out with the reason, and the seconds that it took."""

    found: list[Screened] = field(default_factory=list)
    left_out: list[Choice] = field(default_factory=list)
    seconds: float = 0.0

    def __add__(self, other: Screening) -> Screening:
        return Screening(self.found + other.found, self.left_out + other.left_out, self.seconds + other.seconds)


def screen(
    config: SearchConfig,
    folder: StudyFolder,
    names: Sequence[str],
    weights: Mapping[str, str],
    share: Resources,
    progress: Progress,
    *,
    seconds: float,
    longest: float,
    side: float,
    known: Collection[str] = (),
) -> Screening:
    """Look at the backbones `names` cheaply, in that order.

    Those that cannot be screened, or for which there is no time, are left out with a warning.

    Args:
        seconds: For the screening, after which what is not done is left out.
        longest: Seconds for which it goes on until at least one is done, if none is by then.
        side: Of the images, in pixels.
        known: Backbones that were screened before, on another device.
    """
    started = time.monotonic()
    space = make_space([each.name for each in config.backbones], config.params)
    resolutions = resolutions_of(config, space)
    root = str(folder.root.resolve())
    specs: list[tuple[str, TrialSpec, list[int], float]] = []
    for name in names:
        wanted = {"backbone": name, "freeze_depth": 1.0, "resolution": default_resolution(find(name), space, side)}
        params = {**space.params(space.nearest(wanted)), **wanted}
        spec = make_spec(params, config=config, space=space, weights=weights, balanced=False, root=0)
        specs.append((root, spec, resolutions[name], share.memory))
    ended: list[Any] = []

    def one_more(index: int, result: Any) -> None:
        ended.append(result)
        progress("screening", len(ended), len(specs))

    def enough() -> bool:
        there = seconds if any(isinstance(each, Screened) for each in ended) else max(seconds, longest)
        return time.monotonic() - started > there

    found: list[Any] = [None] * len(specs)
    if seconds > 0 or longest > 0:
        found = each_task(screen_backbone, specs, share, done=one_more, enough=enough)
    left_out = []
    for (_, spec, *_), each in zip(specs, found, strict=True):
        if isinstance(each, BaseException):
            left_out.append(Choice(spec.backbone, False, f"it cannot be screened: {last_line(each)}"))
        elif each is None:
            left_out.append(Choice(spec.backbone, False, NO_TIME))
    for choice in left_out:
        what = "is planned by what was measured on another device" if choice.backbone in known else "is left out"
        logger.warning("%s %s: %s", choice.backbone, what, choice.reason)
    return Screening([each for each in found if isinstance(each, Screened)], left_out, time.monotonic() - started)


def measure_anew(config: SearchConfig, screened: Sequence[Screened], classes: int, share: Resources) -> list[Screened]:
    """Return `screened` with the latency at resolutions that the space has got since; where it cannot be measured, as
    they were."""
    sides = resolutions_of(config, make_space([each.name for each in config.backbones], config.params))
    missing = [sorted(set(sides.get(each.backbone, ())) - each.speeds.keys()) for each in screened]
    wanted = [(each.backbone, classes, new) for each, new in zip(screened, missing, strict=True) if new]
    found = each_task(measure_speeds, wanted, share, done=lambda index, result: None)
    speeds = {name: each for (name, _, _), each in zip(wanted, found, strict=True)}
    for name, each in speeds.items():
        if isinstance(each, BaseException):
            logger.warning("the latency of %s could not be measured: %s", name, last_line(each))
    more = {name: each for name, each in speeds.items() if isinstance(each, dict)}
    return [replace(each, speeds={**each.speeds, **more.get(each.backbone, {})}) for each in screened]


def check_screened(screened: Screening, budget: Budget) -> None:
    """Raise NoTrialFinishedError where no backbone could be screened."""
    if screened.found:
        return
    if all(each.reason == NO_TIME for each in screened.left_out):
        raise NoTrialFinishedError(
            f"a budget of {budget.seconds:.0f} s is too short for one trial on this machine: use at least --budget "
            f"{max(60.0, 4 * budget.spent()):.0f}s (it was over before a backbone could be screened)"
        )
    raise NoTrialFinishedError("none of the backbones could be screened; the reasons are in the lines above")
