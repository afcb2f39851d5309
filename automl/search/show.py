"""The plan and trials in words, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl.data import Dataset
from automl.search.plan import Plan, Screened
from automl.search.taken import Taken, WarmStart

__all__ = ["in_words", "plan_lines", "warm_start_lines"]

LEFT_OUT = 3  # lines of configurations of one earlier study that are not tried


def plan_lines(plan: Plan, dataset: Dataset) -> list[str]:
    """Return the lines that `automl plan` and the head of every search print."""
    splits = {split: len(dataset.rows(split)) for split in ("train", "validation", "test")}
    counts = ", ".join(f"{count} {split}" for split, count in splits.items())
    lines = ["", f"Plan: {sum(splits.values())} images in {len(dataset.classes)} classes ({counts})", ""]
    names = [each.backbone for each in plan.screened] + [each.backbone for each in plan.unscreened]
    width = max(map(len, names))
    head = f"  {'backbone':<{width}}  {'top-1':>6}  {'probe':>12}  {'k-NN':>12}  {'params':>8}  {'latency':>9}"
    lines += [f"{head}  {'max batch':>9}  {'head':>6}  {'frozen':>7}  {'full':>7}   (seconds a trial)"]
    for each, choice in zip(plan.screened, plan.shortlist, strict=True):
        seconds, batch = plan.trial_seconds[each.backbone], _largest_batch(each, plan.memory_share)
        lines.append(
            f"  {each.backbone:<{width}}  {_share(each.prior):>6}  "
            f"{_measured(each.linear_accuracy, each.linear_ci95)}  {_measured(each.knn_accuracy, each.knn_ci95)}  "
            f"{each.cost.parameters / 1e6:>6.1f} M  {each.cost.latency_ms:>6.1f} ms  {batch:>9}  "
            f"{_seconds(seconds, 'head only', 'head, augmented'):>6}  {_seconds(seconds, 'mostly frozen'):>7}  "
            f"{_seconds(seconds, 'everything'):>7}" + ("" if choice.included else f"   left out: {choice.reason}")
        )
    lines += [f"  {each.backbone:<{width}}  left out: {each.reason}" for each in plan.unscreened]
    chosen = sorted((each for each in plan.shortlist if each.included), key=lambda each: each.place)
    lines += ["", "Shortlist: " + ", ".join(f"{each.backbone} ({each.reason})" for each in chosen)]
    budget, again = plan.budget, plan.budget.get("confirmation_seconds")
    refit, closing = budget["refit_seconds"], budget.get("closing_seconds", 0.0)
    lines += [
        "",
        f"Budget: {_minutes(budget['total_seconds'])} = {_minutes(budget['screening_seconds'])} until here, "
        f"{_minutes(budget['search_seconds'])} search, "
        + (f"{_minutes(again)} to train the best again, " if again else "")
        + (f"{_minutes(refit)} kept for the refit; " if refit else f"{_minutes(closing)} to hand over; ")
        + f"about {budget['trials_per_hour']:.0f} trials an hour (dearest kind that fits, median backbone)",
    ]
    lines += [f"Chosen: {each['name']} {each['value']} ({each['reason']})" for each in plan.choices]
    lines += [f"Warning: {warning}" for warning in plan.warnings]
    return [*lines, *warm_start_lines(WarmStart.from_dict(plan.warm_start)), ""]


def warm_start_lines(found: WarmStart) -> list[str]:
    """Return what is taken of each earlier study, what is not, and why; nothing without earlier studies."""
    lines = []
    for each in found.studies:
        apart = "" if each.distance is None else f" (distance {each.distance:.2f}{_largest(each.differences)})"
        what = f"{each.taken} tried early" if each.taken else f"not used: {each.why}"
        lines.append(f"Warm start: {each.study}{apart}: {what}")
        lines += [f"  {_taken(one)}" for one in found.taken if one.study == each.study]
        left_out = [one for one in found.left_out if one.study == each.study]
        lines += [f"  trial {one.trial} not: {one.why}" for one in left_out[:LEFT_OUT]]
        if len(left_out) > LEFT_OUT:
            lines.append(f"  {len(left_out) - LEFT_OUT} more not; all are in plan.json")
    return lines


def _largest(differences: Mapping[str, float]) -> str:
    name = max(differences, key=lambda each: differences[each], default="")
    return f", most in {name}" if name and differences[name] > 0 else ""


def _taken(taken: Taken) -> str:
    moved = f"; moved here: {', '.join(taken.moved)}" if taken.moved else ""
    return f"trial {taken.trial}, {taken.metric} {taken.score:.4f}: {in_words(taken.params)}{moved}"


def _seconds(known: Mapping[str, float], *kinds: str) -> str:
    return next((f"{known[kind]:.0f}" for kind in kinds if kind in known), "-")


def _largest_batch(screened: Screened, share: float) -> str:
    """Images with which a step that trains everything fits into the memory that a trial can have."""
    fits = screened.cost.largest_batch(0.0, pixels=1.0, share=share)
    return "-" if fits is None else f"{fits:,}"


def _measured(value: float, limits: tuple[float, float] | None) -> str:
    """A share, with half the width of its 95 % interval."""
    return f"{value:.3f}" + (" " * 7 if limits is None else f" ±{(limits[1] - limits[0]) / 2:.3f}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _minutes(seconds: float) -> str:
    seconds = max(0, round(seconds))
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


def in_words(params: Mapping[str, Any]) -> str:
    """Return a trial's most important parameters in one line."""
    rate = params.get("learning_rate")
    parts = [params["backbone"], f"freeze_depth {params['freeze_depth']:g}", f"{params['resolution']} px"]
    parts += [f"learning_rate {rate:.2g}"] if rate else []
    return ", ".join([*parts, params["augmentation"]])
