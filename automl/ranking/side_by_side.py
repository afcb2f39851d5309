"""A comparison of studies as a table for the terminal, JSON, CSV (a line per study) and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from automl.ranking import latency, words
from automl.ranking.plain import dump
from automl.ranking.studies import Comparison, StudySummary
from automl.ranking.tables import text_cell
from automl.spreadsheet import spreadsheet_safe

__all__ = ["FORMATS"]


def _lines(found: Comparison) -> list[tuple[str, list[str]]]:
    """Rows of the table: a name, and a text per study."""

    def each(text: Callable[[StudySummary], str]) -> list[str]:
        return [text(study) for study in found.studies]

    def scored(study: StudySummary, value: float | None, limits: tuple[float, float] | None) -> str:
        bounds = f" ({words.bounds(study.metric, limits)})" if limits else ""
        return words.number(study.metric, value) + bounds

    lines = [
        ("data", each(lambda study: (study.dataset_fingerprint or "–")[:12])),
        ("metric", each(lambda study: words.metric_name(study.metric))),
        (
            "validation images",
            each(lambda study: "–" if study.validation_images is None else f"{study.validation_images:,}"),
        ),
        (
            "winner, in the search",
            each(lambda study: scored(study, study.best.score, study.best.ci95) if study.best else "–"),
        ),
        (
            "winner, trained again",
            each(lambda s: scored(s, s.best.confirmed_score, s.best.confirmed_ci95) if s.best else "–"),
        ),
        ("expected on new images", each(lambda study: scored(study, study.corrected, study.corrected_ci95))),
        (
            "test, of the model handed over",
            each(lambda study: scored(study, study.test, study.test_ci95) + _of_another(study)),
        ),
        ("winner", each(lambda study: words.short(study.best.backbone) if study.best else "–")),
        ("its params", each(lambda study: ", ".join(words.describe(study.best.params)) if study.best else "–")),
        ("its trial", each(lambda study: str(study.best.trial) if study.best else "–")),
        ("latency", each(lambda study: words.milliseconds(study.best.latency_ms if study.best else None))),
        (
            "measured on",
            each(lambda study: str(study.best.latency["device"]) if study.best and study.best.latency else "–"),
        ),
        ("parameters", each(lambda study: words.integer(study.best.model_parameters if study.best else None))),
        ("trials", each(lambda study: ", ".join(f"{n} {name.lower()}" for name, n in study.counts.items()) or "none")),
        ("stopped by", each(lambda study: study.stop_reason or "–")),
        ("spent", each(lambda study: words.duration(study.spent_seconds))),
        ("budget", each(lambda study: words.duration(study.budget_seconds))),
    ]
    for name in dict.fromkeys(name for study in found.studies for name in study.backbones):
        texts = each(lambda study, name=name: words.number(study.metric, study.backbones.get(name)))  # type: ignore[misc]
        lines.append((f"best of {words.short(name)}", texts))
    return lines + [(f"space: {name}", list(values)) for name, values in found.space.items()]


def _of_another(study: StudySummary) -> str:
    """Name the trial that was handed over, where it is not the winner."""
    other = study.refit_trial is not None and study.best is not None and study.refit_trial != study.best.trial
    return f", trial {study.refit_trial}" if other else ""


def _sentences(found: Comparison) -> list[str]:
    sentences = [found.verdict]
    for each in found.differences:
        unit = "" if each.metric == "log_loss" else " points"
        scale = 1 if each.metric == "log_loss" else 100
        low, high, value = (round(scale * number, 4 if scale == 1 else 1) for number in (*each.ci95, each.value))
        told = (
            "they cannot be told apart"
            if each.ci95[0] <= 0 <= each.ci95[1]
            else "more than chance explains on these images, which picked both; see what is expected on new ones"
        )
        sentences.append(
            f"{words.metric_name(each.metric)} of the winner of {each.first} minus that of {each.second}, on the same "
            f"{each.images:,} validation images: {value:+g}{unit}, 95 % interval {low:+g} to {high:+g}: {told}."
        )
    if found.same_data and not found.differences and len(found.studies) > 1:
        sentences.append("No paired difference: the winners' predictions on the same validation images are not there.")
    return sentences


def _table(found: Comparison) -> str:
    console = Console(file=io.StringIO(), width=30 + 46 * len(found.studies))
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="")
    for name in ("", *(study.study for study in found.studies)):
        grid.add_column(name, overflow="fold")
    for name, texts in _lines(found):
        grid.add_row(name, *texts)
    console.print(grid, markup=False)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join([*lines, "", *_sentences(found)]).strip("\n") + "\n"


def _csv(found: Comparison) -> str:
    """One line per study, numbers as they are."""
    backbones = list(dict.fromkeys(name for study in found.studies for name in study.backbones))
    scores = ("best_score", "confirmed", "corrected", "test")
    header = ["run", "study", "metric", "direction", "dataset_fingerprint", "same_data", "stop_reason", "best_trial"]
    header += [
        "best_backbone",
        "latency_ms",
        *latency.COLUMNS,
        "model_parameters",
        *(f"{name}{part}" for name in scores for part in ("", "_ci95_low", "_ci95_high")),
        "test_of_trial",
    ]
    header += ["trials", "spent_seconds", "budget_seconds", *(f"best_{name}" for name in backbones)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(map(spreadsheet_safe, [*header, *(f"space_{name}" for name in found.space)]))
    for i, each in enumerate(found.studies):
        best = each.best
        cells: list[Any] = [
            each.run,
            each.study,
            each.metric,
            each.direction,
            each.dataset_fingerprint,
            found.same_data,
        ]
        facts = ("trial", "backbone", "latency_ms")
        cells += [each.stop_reason, *(getattr(best, name) if best else None for name in facts)]
        measured = latency.flat(best.latency if best else None)
        cells += [*(measured.get(name) for name in latency.COLUMNS), best.model_parameters if best else None]
        for value, limits in (
            (best.score if best else None, best.ci95 if best else None),
            (best.confirmed_score if best else None, best.confirmed_ci95 if best else None),
            (each.corrected, each.corrected_ci95),
            (each.test, each.test_ci95),
        ):
            cells += [value, *(limits or (None, None))]
        cells.append(each.refit_trial)
        cells += [sum(each.counts.values()), each.spent_seconds, each.budget_seconds]
        cells += [each.backbones.get(name) for name in backbones] + [values[i] for values in found.space.values()]
        writer.writerow(map(spreadsheet_safe, cells))
    return text.getvalue()


def _markdown(found: Comparison) -> str:
    head = [" ", *(study.study for study in found.studies)]
    lines = ["# Studies side by side", "", *(text_cell(each) + "  " for each in _sentences(found)), ""]
    lines += [f"| {' | '.join(map(text_cell, head))} |", f"|---{'|---' * len(found.studies)}|"]
    lines += [f"| {' | '.join(map(text_cell, [name, *texts]))} |" for name, texts in _lines(found)]
    return "\n".join(lines) + "\n"


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "table": _table, "json": lambda found: dump(found.to_dict()), "csv": _csv, "md": _markdown,
}  # fmt: skip
