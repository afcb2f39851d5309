"""What a person might expect among the trials of a study and does not find, and why it is not there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from automl.config import parse_config
from automl.search.study import backbone_of

__all__ = ["NotTried", "not_tried"]


@dataclass(frozen=True)
class NotTried:
    """Something that a person might expect among the trials, and why it is not there."""

    what: str
    why: str


def not_tried(
    study: optuna.Study, plan: Mapping[str, Any], screened: Mapping[str, Mapping[str, Any]]
) -> list[NotTried]:
    """Return the backbones, planned trials, proposals and choices that `study` did not try, or not to the end.

    Args:
        plan: The content of ``plan.json``; may be empty.
        screened: What that says of the screened backbones, by name.
    """
    return (
        _unscreened(plan) + _not_looked_at(study, plan, screened) + _rest(study, screened, plan.get("warnings") or ())
    )


def _unscreened(plan: Mapping[str, Any]) -> list[NotTried]:
    known = [each for each in plan.get("unscreened") or () if isinstance(each, dict)]
    return [NotTried(str(each.get("backbone")), str(each.get("reason"))) for each in known]


def _not_looked_at(
    study: optuna.Study, plan: Mapping[str, Any], screened: Mapping[str, Mapping[str, Any]]
) -> list[NotTried]:
    """Name the backbones of a plan that is not finished: a search that gave its first answer looks at them next."""
    config = study.user_attrs.get("config")
    if not plan.get("unfinished") or config is None:
        return []
    known = {*screened, *(each.what for each in _unscreened(plan))}
    why = "it was not screened yet; the search, or automl resume after it was cut off, goes on with it"
    names = [each.name for each in parse_config(config, "the study").backbones]
    return [NotTried(name, why) for name in names if name not in known]


def _rest(study: optuna.Study, screened: Mapping[str, Mapping[str, Any]], warnings: Sequence[str]) -> list[NotTried]:
    trials = study.get_trials(deepcopy=False)
    begun = {backbone_of(each) for each in trials if each.user_attrs.get("reason") != "skipped"}
    over = study.user_attrs.get("stop_reason") is not None
    untried = {name: each for name, each in screened.items() if name not in begun}
    found = [
        NotTried(name, str(each.get("reason") or "")) for name, each in untried.items() if not each.get("included")
    ]
    for name, each in untried.items():
        if each.get("included"):
            ended = "but the search ended before its turn" if over else "and its turn has not come yet"
            found.append(NotTried(name, f"it was on the shortlist, {ended}"))
    too_long = study.user_attrs.get("not_tried") or {}
    fitting = len(study.user_attrs.get("not_begun") or ()) - len(too_long)
    planned = sum(trial.state == TrialState.WAITING for trial in trials) + max(0, fitting)
    if planned:
        its, it = ("its", "it") if planned == 1 else ("their", "them")
        more = f" --trials +{planned}" if study.user_attrs.get("stop_reason") == "trials" else ""
        ended = f"the search ended before {its} turn; automl resume{more} goes on with {it}"
        what = f"{planned} planned trial{'' if planned == 1 else 's'}"
        found.append(NotTried(what, ended if over else f"{its} turn has not come yet"))
    skipped = [trial for trial in trials if trial.user_attrs.get("reason") == "skipped"]
    if skipped:
        found.append(
            NotTried(
                f"{len(skipped)} proposal{'' if len(skipped) == 1 else 's'} of the sampler",
                f"too little time was left; the first: {skipped[0].user_attrs.get('message', '')}",
            )
        )
    found += [NotTried(what, why) for what, why in too_long.items()]
    return found + _choices(study, warnings)


def _choices(study: optuna.Study, warnings: Sequence[str]) -> list[NotTried]:
    """Choices of a categorical parameter that no trial ran to its end. `warnings`: of the plan."""
    trials = study.get_trials(deepcopy=False)
    offered: dict[str, dict[Any, None]] = {}
    known: set[tuple[str, int]] = set()  # trials share their distributions
    outcomes: defaultdict[tuple[str, Any], Counter[str]] = defaultdict(Counter)
    for trial in trials:
        ended = {TrialState.COMPLETE: "whole", TrialState.PRUNED: "stopped early"}.get(trial.state)
        reason = ended or str(trial.user_attrs.get("reason") or trial.state.name.lower())
        for name, distribution in trial.distributions.items():
            if name == "backbone" or not isinstance(distribution, CategoricalDistribution):
                continue
            if (name, id(distribution)) not in known:
                known.add((name, id(distribution)))
                offered.setdefault(name, {}).update(dict.fromkeys(distribution.choices))
            outcomes[name, trial.params[name]][reason] += 1
    planned: set[tuple[str, Any]] = set()
    waiting = [each.system_attrs.get("fixed_params") or {} for each in trials if each.state == TrialState.WAITING]
    for params in [*waiting, *(study.user_attrs.get("not_begun") or ())]:
        planned.update(params.items())
    proposed = sum(each.user_attrs.get("origin") == "sampler" for each in trials)
    over = study.user_attrs.get("stop_reason") is not None
    return [
        NotTried(f"{name} {choice}", _unseen(name, choice, found, (name, choice) in planned, proposed, warnings, over))
        for name, choices in offered.items()
        for choice in choices
        if not (found := outcomes.get((name, choice), Counter()))["whole"]
    ]


def _unseen(
    name: str, choice: Any, outcomes: Counter[str], planned: bool, proposed: int, warnings: Sequence[str], over: bool
) -> str:
    """Say why no trial with this choice ran to its end. `outcomes`: of the trials with it; `planned`: whether something
    that was not begun has it; `proposed`: how many the sampler proposed; `over`: whether the search has ended."""
    if outcomes:
        ended = [
            f"{n} {'not begun for lack of time' if reason == 'skipped' else reason.replace('_', ' ')}"
            for reason, n in outcomes.most_common()
        ]
        return f"no trial with this choice ran to its end: {', '.join(ended)}"
    if name == "freeze_depth" and choice != 1.0 and any("past the head" in each for each in warnings):
        return "the plan found the budget too short to train anything past the head"
    if planned and not over:
        return "a configuration that is planned has it; its turn has not come yet"
    if planned:
        return "a configuration that was planned has it, but its turn did not come, or it did not fit the time left"
    if not proposed:
        none = "the search ended before the sampler proposed any" if over else "the sampler has not proposed any yet"
        return f"none of the first configurations has it, and {none}"
    asked = "the only proposal" if proposed == 1 else f"the {proposed} proposals"
    return f"neither the first configurations nor {asked} of the sampler had this choice"
