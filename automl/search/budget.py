"""The clock of a search, and what trials and the refit cost on this machine.

Costs start as predictions from the screening's measurements and are corrected by what the finished trials took.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any

from optuna.trial import FrozenTrial

from automl.backbones import find
from automl.config import IMAGE_BY_IMAGE
from automl.screening import Cost
from automl.search.spec import effective_resolution, trains_on_embeddings
from automl.training import RECALIBRATION_IMAGES

__all__ = ["CONFIRMED", "REFIT_MARGIN", "Budget", "CostModel", "half_of", "together"]

REFIT_MARGIN = 1.15
CONFIRMATION_SHARE = 0.2  # of the time from the first trial on, at most
CONFIRMED = 3  # configurations for which there should be time
RAY_END_SECONDS = 2.0
LEARNED_FROM = 8  # trials, the latest
REPORT_SECONDS = 6.0  # package, latency, leaderboard, report


class Budget:
    """Wall-clock seconds from the start of the command. The clock is monotonic and can be passed in.

    Args:
        started: When the command started, if not now: imports take seconds, too.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic, *, started: float | None = None
    ) -> None:
        self.seconds = seconds
        self._clock = clock
        self._started = clock() if started is None else started

    def spent(self) -> float:
        return self._clock() - self._started

    def left(self) -> float:
        return self.seconds - self.spent()


@dataclass
class CostModel:
    """Seconds that trials and the refit take on this machine.

    Args:
        costs: Measured per backbone, at `resolutions` of the same key.
        train_images, validation_images, test_images: Sizes of the splits.
        embedded: Backbones, each with a resolution, whose embedding of all images is there.
        sampled: Whether the screening embedded a sample only.
        random: Backbones with random weights, which every trial draws and embeds anew.
        recalibration_images: Images that an epoch's evaluation passes through besides the validation split.
        memory_share: Part of a device's memory (of the machine's, without GPUs) that one trial can have.
        most_at_once: Images of a batch that a person lets through the model at a time; None: all of them.
    """

    costs: Mapping[str, Cost]
    resolutions: Mapping[str, int]
    train_images: int
    validation_images: int
    test_images: int = 0
    recalibration_images: int = RECALIBRATION_IMAGES
    ratios: dict[tuple[str, int, bool], list[float]] = field(default_factory=dict)
    head_ratios: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    embedded: set[tuple[str, int]] = field(default_factory=set)
    sampled: bool = False
    random: Collection[str] = ()
    memory_share: float = 1.0
    most_at_once: int | None = None

    def epoch_seconds(self, params: Mapping[str, Any]) -> float:
        """Predicted seconds of one epoch, evaluation included."""
        if self.is_head_only(params):
            guess = 0.02 + 2e-5 * (self.train_images + self.validation_images)
            return guess * (median(self.head_ratios[-LEARNED_FROM:]) if self.head_ratios else 1.0)
        return self._pass_seconds(params, self.train_images, self.validation_images, self.recalibration_images)

    def _pass_seconds(
        self, params: Mapping[str, Any], trained_on: int, evaluated_on: int, recalibrated_on: int
    ) -> float:
        """Predicted seconds of passing so many images through a model that trains more than its head."""
        seconds = self.costs[params["backbone"]].epoch_seconds(
            float(params["freeze_depth"]),
            trained_on,
            evaluated_on,
            recalibration_images=min(recalibrated_on, self.train_images),
            batch_size=self._images_at_once(params),
            pixels=self._pixels(params),
        )
        return seconds * self._ratio(*self._kind(params))

    def _kind(self, params: Mapping[str, Any]) -> tuple[str, int, bool]:
        """What of `params` decides how far off the screening is: backbone, resolution, and whether images are augmented
        one by one, which a small model on a GPU may wait for, and the screening does not do."""
        return *self._what(params), params.get("augmentation") in IMAGE_BY_IMAGE

    def _ratio(self, backbone: str, resolution: int, one_by_one: bool) -> float:
        """Seconds that epochs took over those predicted from the screening: of the backbone at the resolution with such
        an augmentation, else at its others, else of the others (a machine that was busy during the screening was busy
        for all)."""
        own = self.ratios.get((backbone, resolution, one_by_one))
        alike = [each for (name, _, kind), ratios in self.ratios.items() if (name, kind) == (backbone, one_by_one)
                 for each in ratios]  # fmt: skip
        others = [each for (name, *_), ratios in self.ratios.items() if name == backbone for each in ratios]
        known = own or alike or others or [each for ratios in self.ratios.values() for each in ratios]
        return median(known) if known else 1.0  # one trial beside which something else ran spoils no other's

    def micro_batch(self, params: Mapping[str, Any]) -> tuple[int | None, str]:
        """Return how many images of a batch pass through the model at a time so that a training step fits into the
        memory that a trial can have, and why (None and no reason: all of them; 0: not a single one fits)."""
        cost, batch = self.costs[params["backbone"]], int(params["batch_size"])
        resolution = self._what(params)[1]
        if self.is_head_only(params):
            return None, ""
        fits = cost.largest_batch(float(params["freeze_depth"]), pixels=self._pixels(params), share=self.memory_share)
        if fits is None or fits >= batch:
            return None, ""
        there = f"{fits} images of {resolution} px fit into {self.memory_share * cost.available_mb:,.0f} MB of memory"
        if not fits:
            return 0, there
        passes = -(-batch // fits)
        return -(-batch // passes), f"{there}: batches of {batch} in {passes} passes"

    def _images_at_once(self, params: Mapping[str, Any]) -> int:
        """Of a batch, through the model: as the trial does, where `params` are those of one, else as it would."""
        batch = int(params["batch_size"])
        limits: tuple[int | None, ...] = (self.most_at_once, self.micro_batch(params)[0])
        if "micro_batch" in params:
            limits = (params["micro_batch"],)
        return min(each or batch for each in (*limits, batch))

    def step_mb(self, params: Mapping[str, Any]) -> float | None:
        """Predicted MB of a training step of a trial, with its micro-batch; None where it is not known, and of a head
        on cached features, which needs next to none."""
        if self.is_head_only(params):
            return None
        cost, images = self.costs[params["backbone"]], self._images_at_once(params)
        return cost.step_mb(float(params["freeze_depth"]), images=images, pixels=self._pixels(params))

    def start_seconds(self, params: Mapping[str, Any]) -> float:
        """Predicted seconds from the start of a trial to its first step: as in the screening, whose process was new,
        until there are trials on warm workers; and of the embedding, where the trial is the first that needs it."""
        start = mean(self.starts[-LEARNED_FROM:]) if self.starts else self._new_process(params)
        return start + self.embedding_seconds(params)

    def _new_process(self, params: Mapping[str, Any]) -> float:
        return self.costs[params["backbone"]].start_seconds + 1.0

    def trial_seconds(self, params: Mapping[str, Any], epochs: int) -> float:
        return self.start_seconds(params) + epochs * self.epoch_seconds(params)

    def embedding_seconds(self, params: Mapping[str, Any]) -> float:
        """Predicted seconds of the embedding that a trial on the head alone trains on, 0 once it is there."""
        backbone = params["backbone"]
        if not self.is_head_only(params) or self._what(params) in self.embedded:
            return 0.0
        images = self.train_images + self.validation_images
        return self.costs[backbone].forward_seconds * self._pixels(params) * images

    @staticmethod
    def _what(params: Mapping[str, Any]) -> tuple[str, int]:
        """The backbone, and the resolution that it takes where `params` ask for one that it cannot."""
        backbone = str(params["backbone"])
        return backbone, effective_resolution(find(backbone), int(params["resolution"]))

    def _pixels(self, params: Mapping[str, Any]) -> float:
        """Pixels of an image over those of the images that its backbone was measured with."""
        backbone, resolution = self._what(params)
        return (resolution / self.resolutions[backbone]) ** 2

    def refit_seconds(self, params: Mapping[str, Any], epochs: int) -> float:
        """Predicted seconds of retraining on train + validation. Past the head nothing is evaluated between epochs."""
        images = self.train_images + self.validation_images
        if self.is_head_only(params):
            training = epochs * self.epoch_seconds(params) * images / max(1, self.train_images)
        else:
            training = self._pass_seconds(params, epochs * images, 0, self.recalibration_images)
        return self._new_process(params) + training + self.embedding_seconds(params)

    def run_seconds(self, params: Mapping[str, Any], epochs: int) -> float:
        """Predicted seconds of a confirmation run: a trial in a process of its own."""
        return self._new_process(params) + epochs * self.epoch_seconds(params) + self.embedding_seconds(params)

    def confirmation_seconds(
        self, several: Sequence[Mapping[str, Any]], epochs: int, *, seconds: float, repeats: int, at_once: int
    ) -> float:
        """Seconds to keep, of a search of `seconds`, for training the configurations `several` again: up to `repeats`
        times each, as often as a fifth of the time pays for."""
        runs = [self.run_seconds(each, epochs) for each in several]
        for often in range(repeats, 0, -1):
            needed = REFIT_MARGIN * together(often * sum(runs), max(runs), at_once)
            if needed <= CONFIRMATION_SHARE * seconds:
                return needed
        return 0.0

    def reserve(self, params: Mapping[str, Any], epochs: int, *, refit: bool) -> float:
        """Seconds to keep for what follows the search: the refit, if there is to be one, with a margin for the error of
        the prediction, and the end of the command."""
        refitting = self.refit_seconds(params, epochs) * REFIT_MARGIN if refit else 0.0
        return RAY_END_SECONDS + refitting + self.closing_seconds(params)

    def refit_fits(self, params: Mapping[str, Any], epochs: int, seconds: float) -> bool:
        """Whether `seconds` are enough for a whole trial of `params` and its refit; if not, a good trial's own weights
        are worth more than the refit of a lesser one."""
        return self.trial_seconds(params, epochs) + self.reserve(params, epochs, refit=True) <= seconds

    def closing_seconds(self, params: Mapping[str, Any]) -> float:
        """Predicted seconds from the end of the last training to the end of the command."""
        forward = (
            self.costs[params["backbone"]].forward_seconds * self._pixels(params) * self._ratio(*self._kind(params))
        )
        return forward * self.test_images + REPORT_SECONDS

    def learn(self, params: Mapping[str, Any], epoch_seconds: float, start_seconds: float | None = None) -> None:
        """Correct the prediction for a backbone at a resolution by what a trial took: an epoch, evaluation included,
        and its start."""
        head_only = self.is_head_only(params)
        embeds = head_only and (self.sampled or self.embedding_seconds(params) > 0)  # or waited for one that did
        if start_seconds is not None and not embeds:
            self.starts.append(start_seconds)
        if head_only:
            if params["backbone"] not in self.random:
                self.embedded.add(self._what(params))
            kept_heads, self.head_ratios = self.head_ratios, []
            self.head_ratios = [*kept_heads, epoch_seconds / self.epoch_seconds(params)]
            return
        kept, self.ratios = self.ratios, {}
        predicted = self.epoch_seconds(params)
        learned = [*kept.get(self._kind(params), []), epoch_seconds / predicted]
        self.ratios = kept | {self._kind(params): learned[-LEARNED_FROM:]}

    def learn_from(self, trial: FrozenTrial) -> None:
        """`learn` what a recorded trial took, if it trained for an epoch on a device such as its backbone was screened
        on."""
        attrs = trial.user_attrs
        spec = attrs.get("spec") or {}
        cost = self.costs.get(spec.get("backbone", ""))
        if cost is None or "epoch_seconds" not in attrs:
            return
        if not cost.device or attrs.get("device", cost.device) == cost.device:
            self.learn(spec, attrs["epoch_seconds"], attrs.get("startup_seconds"))

    @staticmethod
    def is_head_only(params: Mapping[str, Any]) -> bool:
        """Whether a trial with `params` trains on embeddings."""
        return trains_on_embeddings(params)


def half_of(epochs: int) -> int:
    """Return the fewest epochs with which a trial that is to be handed over itself is worth its time."""
    return math.ceil(epochs / 2)


def together(total: float, longest: float, at_once: int) -> float:
    """Return the seconds in which tasks of `total` seconds are done, `at_once` at a time and whatever their order, the
    longest of which takes `longest` (R. L. Graham, SIAM Journal on Applied Mathematics 17(2), 1969)."""
    return max(longest, (total - longest) / at_once + longest)
