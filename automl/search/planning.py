"""How the plan is made: the shortlist, what is tried first, and what the budget goes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import FrozenTrial

from automl.config import SearchConfig
from automl.data import Dataset
from automl.screening import MAX_IMAGES, Candidate, Choice, shortlist
from automl.search.budget import CONFIRMED, CostModel, half_of
from automl.search.defaults import default_trials, sound_trials
from automl.search.plan import Plan, Screened
from automl.space import Space

__all__ = ["cost_model", "make_plan"]

AS_CHEAP = 1.1  # times the seconds of the cheapest backbone's dearest trial
AUGMENTED_HEAD = "head, augmented"  # through the backbone, in every epoch


@dataclass(frozen=True)
class _Costs:
    """Predicted seconds of one backbone: of whole trials by what trains, and with half of their epochs, of an epoch of
    the dearest of them, of what follows the search (with the refit where that `refits`), and of training three of them
    again."""

    trials: dict[str, float]
    halves: dict[str, float]
    epoch: float
    refits: bool
    reserve: float
    again: float

    @property
    def dearest(self) -> float:
        return max(self.trials.values())

    def dearest_of(self, seconds: float) -> float:
        """Of the trials that take no longer than `seconds` the dearest, else the cheapest of all."""
        return max((each for each in self.trials.values() if each <= seconds), default=min(self.trials.values()))

    @property
    def past_head(self) -> float | None:
        """Of half of the epochs of the cheapest trial that trains more than the head."""
        return min(
            (each for kind, each in self.halves.items() if kind not in ("head only", AUGMENTED_HEAD)), default=None
        )


def cost_model(
    screened: Sequence[Screened], dataset: Dataset, *, memory_share: float = 1.0, most_at_once: int | None = None
) -> CostModel:
    """Return what trials of the screened backbones cost on `dataset`; the others as of `CostModel`."""
    train, validation, test = (len(dataset.rows(split)) for split in ("train", "validation", "test"))
    whole = train + validation <= MAX_IMAGES  # else the screening has embedded a sample
    return CostModel(
        {each.backbone: each.cost for each in screened},
        {each.backbone: each.resolution for each in screened},
        train_images=train,
        validation_images=validation,
        test_images=test,
        embedded={(each.backbone, each.resolution) for each in screened if whole and each.pretrained},
        sampled=not whole,
        random=frozenset(each.backbone for each in screened if not each.pretrained),
        memory_share=memory_share,
        most_at_once=most_at_once,
    )


def make_plan(
    config: SearchConfig,
    dataset: Dataset,
    space: Space,
    screened: list[Screened],
    *,
    seconds_left: float,
    seconds_spent: float,
    choices: list[dict[str, Any]],
    unscreened: Sequence[Choice] = (),
    keep: Sequence[str] = (),
    unfinished: bool = False,
    at_once: int = 1,
    memory_share: float = 1.0,
    trials: Sequence[FrozenTrial] = (),
) -> Plan:
    """Shortlist the screened backbones and divide what is left of the budget.

    Args:
        unscreened: Backbones that are left out because they were not screened, with the reasons.
        keep: Backbones that the study has trials of; they stay, in this order, before all others.
        at_once: Trials that run at the same time.
        memory_share: As of `CostModel`.
        trials: Of the study, which have shown what trials cost.
    """
    model = cost_model(screened, dataset, memory_share=memory_share, most_at_once=config.training.micro_batch)
    epochs, repeats, side = config.training.epochs, config.search.repeats, dataset.audit.side
    for each in trials:
        model.learn_from(each)
    costs = {
        each.backbone: _costs(each.backbone, model, space, epochs, seconds_left, repeats, at_once, side)
        for each in screened
    }
    pinned = {choice.name for choice in config.backbones if choice.pinned}
    candidates = [
        Candidate(
            each.backbone,
            each.knn_accuracy,
            each.linear_accuracy,
            costs[each.backbone].dearest,
            prior=each.prior,
            pretrained=each.pretrained,
            pinned=each.backbone in pinned,
        )
        for each in screened
    ]
    reserve, confirming = _kept_free(list(costs.values()))
    decided = shortlist(candidates, search_seconds=at_once * (seconds_left - confirming - reserve))
    decided = [
        replace(each, included=True, reason=f"in the study already; {each.reason}")
        if each.backbone in keep and not each.included
        else each
        for each in decided
    ]
    kept = [choice.backbone for choice in decided if choice.included]
    reserve, confirming = _kept_free([costs[each] for each in kept])
    tried = [space.params(each) for each in default_trials(kept, space, epochs, side)]
    least = min(model.trial_seconds(each, half_of(epochs)) + model.reserve(each, epochs, refit=False) for each in tried)
    refitted = [each for each in kept if costs[each].refits]
    searching = max(0.0, seconds_left - confirming - reserve)
    budget = {
        "total_seconds": seconds_left + seconds_spent,
        "screening_seconds": seconds_spent,
        "search_seconds": searching,
        "confirmation_seconds": confirming,
        "refit_seconds": reserve if refitted else 0.0,
        "closing_seconds": 0.0 if refitted else reserve,
        "least_seconds": seconds_spent + least,
        "trials_per_hour": at_once * 3600 / sorted(costs[each].dearest_of(searching) for each in kept)[len(kept) // 2],
    }
    return Plan(
        screened=screened,
        shortlist=decided,
        unscreened=list(unscreened),
        order=_order(decided, costs),
        budget=budget,
        choices=[
            *choices,
            *_without_heads([costs[each] for each in kept]),
            *_computed_in(screened, kept),
            _trained_again(confirming, repeats, redrawn=dataset.audit.splits.get("validation") != "given"),
            _handed_over(refitted, kept),
        ],
        warnings=[
            *_warnings(budget, {each: costs[each] for each in kept}, seconds_left - reserve),
            *_too_few(config.search.trials, [model.is_head_only(each) for each in tried]),
        ],
        trial_seconds={name: each.trials for name, each in costs.items()},
        epoch_seconds={name: each.epoch for name, each in costs.items()},
        unfinished=unfinished,
        memory_share=memory_share,
    )


def _costs(
    backbone: str,
    model: CostModel,
    space: Space,
    epochs: int,
    seconds_left: float,
    repeats: int,
    at_once: int,
    side: float,
) -> _Costs:
    sound: dict[str, dict[str, Any]] = {}
    for kind, point in sound_trials(backbone, space, epochs, side).items():
        params = {**space.params(point), "backbone": backbone}
        if (kind == "head only") == model.is_head_only(params) and params not in sound.values():
            sound[kind if float(params["freeze_depth"]) < 1 or kind == "head only" else AUGMENTED_HEAD] = params
    trials = {kind: model.trial_seconds(params, epochs) for kind, params in sound.items()}
    halves = {kind: model.trial_seconds(params, half_of(epochs)) for kind, params in sound.items()}
    dearest = sound[max(trials, key=lambda kind: trials[kind])]
    refits, again = model.refit_fits(dearest, epochs, seconds_left), 0.0
    if refits:
        again = model.confirmation_seconds(
            CONFIRMED * [dearest], epochs, seconds=seconds_left, repeats=repeats, at_once=at_once
        )
    reserve = model.reserve(dearest, epochs, refit=refits)
    return _Costs(trials, halves, model.epoch_seconds(dearest), refits, reserve, again)


def _kept_free(costs: Sequence[_Costs]) -> tuple[float, float]:
    """Seconds to keep free for what follows the search, and before it for training the best again: at least what the
    cheapest backbone that can be refitted takes."""
    refitted = [each for each in costs if each.refits] or costs
    confirming = min((each.again for each in costs if each.again), default=0.0)
    return min(each.reserve for each in refitted), confirming


def _order(decided: Sequence[Choice], costs: dict[str, _Costs]) -> list[str]:
    """Return the shortlisted backbones as they are tried: the cheapest first, for an answer soon, then the most
    promising. Of several that are about as cheap the most promising, which what was measured by chance does not change.
    """
    kept = sorted((each for each in decided if each.included), key=lambda each: each.place)
    least = min(costs[each.backbone].dearest for each in kept)
    cheapest = next(each for each in kept if costs[each.backbone].dearest <= AS_CHEAP * least)
    return [each.backbone for each in (cheapest, *(each for each in kept if each is not cheapest))]


def _warnings(budget: dict[str, float], costs: Mapping[str, _Costs], there: float) -> list[str]:
    """Say what the budget is too short for. `there`: seconds for trials."""
    if budget["least_seconds"] > budget["total_seconds"]:
        enough = f"--budget {1.2 * budget['least_seconds']:.0f}s"
        return [f"the budget is too short for one trial, so a search would refuse it: use at least {enough}"]
    past_head = [each.past_head for each in costs.values() if each.past_head is not None]
    if past_head and there < min(past_head):
        return [
            f"the budget is too short to train anything past the head: half of the cheapest such trial takes about "
            f"{min(past_head):.0f} s, and {max(0.0, there):.0f} s are left"
        ]
    too_long = [
        f"{name} {kind} ({seconds:.0f} s{', with fewer epochs' if each.halves[kind] <= there else ''})"
        for name, each in costs.items()
        for kind, seconds in each.trials.items()
        if seconds > there
    ]
    return [f"longer than the {there:.0f} s that are left for a trial: {', '.join(too_long)}"] if too_long else []


def _too_few(trials: int | None, heads: Sequence[bool]) -> list[str]:
    """Say which of the sound configurations, of which the heads come first, so few trials do not reach."""
    if trials is None or trials >= len(heads):
        return []
    if trials <= sum(heads) < len(heads):
        return [
            f"--trials {trials} trains nothing past the head: the heads, {sum(heads)} in all, come first; for all of "
            f"the sound configurations use --trials {len(heads)}"
        ]
    return [f"--trials {trials} is too few for all {len(heads)} sound configurations, which come first"]


def _without_heads(costs: Sequence[_Costs]) -> list[dict[str, Any]]:
    """Say when there is something to hand over for the first time, where that is not a head after a minute."""
    if any("head only" in each.trials for each in costs):
        return []
    least = min(min(each.trials.values()) for each in costs)
    reason = "the space has no head on kept features, which needs freeze_depth 1.0 with augmentation none"
    return [{"name": "first answer", "value": f"after a whole trial, {least:.0f} s at least", "reason": reason}]


def _computed_in(screened: Sequence[Screened], kept: Sequence[str]) -> list[dict[str, Any]]:
    """Say which shortlisted backbones train in another precision than the device's own, and what that spares."""
    found = [each for each in screened if each.backbone in kept and each.cost.training_dtype != "auto"]
    if not found:
        return []
    costs = {each.backbone: each.cost for each in found}
    ratios = ", ".join(
        f"{each.dtype_seconds[each.training_dtype] / max(each.dtype_seconds.values()):.2f} with {name}"
        for name, each in costs.items()
    )
    own = max(found[0].cost.dtype_seconds, key=lambda each: found[0].cost.dtype_seconds[each])
    reason = f"with half frozen, a step takes of one in {own}: {ratios}; others train, and all are evaluated, in {own}"
    return [{"name": "training precision", "value": f"{found[0].cost.training_dtype} on a CPU", "reason": reason}]


def _trained_again(seconds: float, repeats: int, *, redrawn: bool) -> dict[str, Any]:
    """Say whether the best configurations are trained again before one is chosen."""
    if seconds:
        where = "on new splits" if redrawn else "with new seeds, on the validation images that were given"
        often = "once" if repeats == 1 else f"up to {repeats} times"
        value, reason = "the best configurations", f"{where}, {often} each, as long as there is time"
    elif repeats:
        value, reason = "only what is cheap", "three whole trials more would take over a fifth of the time"
    else:
        value, reason = "none", "repeats: 0 in the config"
    return {"name": "train again", "value": value, "reason": reason}


def _handed_over(refitted: list[str], kept: list[str]) -> dict[str, Any]:
    """Say what the winner will be: retrained on train + validation, or as its trial left it."""
    if len(refitted) == len(kept):
        return {"name": "hand over", "value": "refit", "reason": "there is time for a whole trial and its refit"}
    if not refitted:
        reason = "a whole trial and its refit do not fit the budget; it is trained on for as long as there is time"
        return {"name": "hand over", "value": "own weights of the best trial", "reason": reason}
    reason = f"a whole trial and its refit fit the budget with {', '.join(refitted)} only"
    return {"name": "hand over", "value": "refit, or own weights of the best trial", "reason": reason}
