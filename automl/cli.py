"""The command line. Progress goes to stderr, results to stdout; heavy libraries are imported by the command that needs
them, so that `automl --help` answers at once.

All commands stand in this one file, because that is how one looks for a command; what they show is in `terminal.py`,
what they do in `pipeline.py`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl import __version__
from automl.errors import AutoMLError, ConfigError, DataError, OutputError, UsageError, did_you_mean
from automl.live import live_status
from automl.terminal import Progress, close, log_to, open_study, print_board, say, show, show_plan, signals

if TYPE_CHECKING:
    from automl.config import SearchConfig

__all__ = ["app", "main"]

app = typer.Typer(
    name="automl",
    help="Find out which pretrained image backbone to fine-tune on your data, how, and how sure that answer is.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_started: float | None = None  # when the command did, before the heavy imports

DATA = Annotated[Path, typer.Argument(help="folder of class folders, folder with train/ [val/] test/, or CSV/parquet")]
RUN = Annotated[Path, typer.Argument(help="study folder, such as runs/NAME")]
SPACE = Annotated[
    str, typer.Option("--space", help="search space: a .yaml file, or demo, laptop, classic, edge, overnight-gpu")
]
BUDGET = Annotated[str | None, typer.Option("--budget", help="wall-clock time, refit included: 8h, 90m, 1h30m, 45s")]
TRIALS = Annotated[int | None, typer.Option("--trials", min=1, help="stop after this many trials")]
OUT = Annotated[Path | None, typer.Option("--out", help="study folder; default runs/<name of DATA>-<date>")]
SEED = Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="seed of splits, sampler and training")]
REPORTS = Annotated[Path, typer.Option("--reports", help="folder of the leaderboard reports")]
WEIGHTS = Annotated[
    Path | None, typer.Option("--weights-dir", envvar="AUTOML_WEIGHTS_DIR", help="folder of pretrained weights")
]
RAY = Annotated[str | None, typer.Option("--ray-address", help="Ray cluster to use; default: this machine")]
STORAGE = Annotated[
    str | None, typer.Option("--storage", help="RDB URL of the study; default: SQLite in the study folder")
]
REPEATS = Annotated[
    int | None, typer.Option("--repeats", min=0, help="train each of the best so often again before one is chosen")
]
WARM_START = Annotated[
    list[Path] | None,
    typer.Option(
        "--warm-start", metavar="RUN", help="earlier study, or a folder of them, to learn from; may be given repeatedly"
    ),
]
MAX_LATENCY = Annotated[
    float | None, typer.Option("--max-latency-ms", min=0, help="only trials whose model takes no longer for one image")
]
MAX_PARAMETERS = Annotated[
    int | None, typer.Option("--max-parameters", min=0, help="only trials whose model has no more parameters")
]
MAX_MEMORY = Annotated[
    float | None, typer.Option("--max-memory-mb", min=0, help="only trials whose training took no more memory, in MB")
]
METRIC = Annotated[
    str | None,
    typer.Option("--metric", help="rank by accuracy, balanced_accuracy, macro_precision, macro_recall, macro_f1, "
                 "log_loss or auroc; default: what the search optimised"),
]  # fmt: skip
JSON = Annotated[bool, typer.Option("--json", help="print the leaderboard as JSON at the end")]


class BoardFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


class PredictFormat(StrEnum):
    table = "table"
    json = "json"
    csv = "csv"


class ExportFormat(StrEnum):
    onnx = "onnx"
    torch_export = "torch-export"


@app.command()
def search(
    data: DATA, space: SPACE = "laptop", budget: BUDGET = None, trials: TRIALS = None, out: OUT = None,
    seed: SEED = None, reports: REPORTS = Path("reports"), weights_dir: WEIGHTS = None, ray_address: RAY = None,
    storage: STORAGE = None, warm_start: WARM_START = None, repeats: REPEATS = None, as_json: JSON = False,
) -> None:  # fmt: skip
    """Audit the data, screen the backbones, plan, search, train the best again, refit the winner, and report."""
    _search(
        data, space, budget, trials, out, seed, reports, weights_dir, ray_address, storage, as_json, warm_start,
        repeats, plan_only=False,
    )  # fmt: skip


@app.command()
def plan(
    data: DATA, space: SPACE = "laptop", budget: BUDGET = None, trials: TRIALS = None, out: OUT = None,
    seed: SEED = None, weights_dir: WEIGHTS = None, ray_address: RAY = None, warm_start: WARM_START = None,
    repeats: REPEATS = None,
) -> None:  # fmt: skip
    """Audit, screen and plan, without the search."""
    _search(
        data, space, budget, trials, out, seed, Path("reports"), weights_dir, ray_address, None, False, warm_start,
        repeats, plan_only=True,
    )  # fmt: skip


@app.command()
def resume(
    run: RUN,
    budget: Annotated[str | None, typer.Option(help="+2h: on top of what is left; 2h: instead of it")] = None,
    trials: Annotated[str | None, typer.Option("--trials", help="more trials, such as +10")] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="go on in this wider space: more backbones, more choices")
    ] = None,
    repeats: REPEATS = None, reports: REPORTS = Path("reports"), weights_dir: WEIGHTS = None, ray_address: RAY = None,
    as_json: JSON = False,
) -> None:  # fmt: skip
    """Go on with a study that was interrupted, or extend one that is done."""
    _make_room()
    from automl import resuming
    from automl.config import find_space, load_config, parse_duration

    try:
        seconds = parse_duration(budget) if budget is not None else None
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None
    more = trials.strip().removeprefix("+") if trials is not None else None
    if more is not None and not (more.isdecimal() and int(more)):
        raise UsageError(f'--trials: expected how many more, such as +10; given "{trials}"')
    folder = _study(run)
    log_to(folder.log)
    with signals(folder.root) as interrupt, live_status(folder):
        page = resuming.resume(
            folder, reports, more_budget=seconds, on_top=bool(budget and budget.strip().startswith("+")),
            more_trials=int(more) if more else None, repeats=repeats,
            wider=load_config(find_space(space)) if space else None,
            weights_dir=weights_dir, ray_address=ray_address, interrupt=interrupt, progress=Progress(),
            show_plan=show_plan, started=_started,
        )  # fmt: skip
    close(folder.root, page, interrupt.code, as_json)


@app.command()
def leaderboard(
    run: RUN, style: Annotated[BoardFormat, typer.Option("--format")] = BoardFormat.table,
    metric: METRIC = None,
    max_latency_ms: MAX_LATENCY = None, max_parameters: MAX_PARAMETERS = None, max_memory_mb: MAX_MEMORY = None,
) -> None:  # fmt: skip
    """Print the leaderboard of a study, and why it is so; also while it runs."""
    from automl.ranking.limits import Limits

    limits = Limits(max_latency_ms, max_parameters, max_memory_mb)
    print_board(_study(run).root, style.value, limits, _known(metric))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN…", help="study folders")],
    style: Annotated[BoardFormat, typer.Option("--format")] = BoardFormat.table,
) -> None:
    """Put studies side by side, and say whether they are of the same data."""
    from automl.ranking import side_by_side, studies

    if len(runs) < 2:
        raise UsageError("compare needs two studies or more: automl compare RUN RUN…")
    found = studies.compare([(folder := _study(run), open_study(folder)) for run in runs])
    show(side_by_side.FORMATS[style.value](found).rstrip("\n"))


@app.command()
def status(run: RUN, as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Show how a search stands: running trials, the best so far, time left."""
    from automl.ranking.status import look, status_lines

    folder = _study(run)
    found = look(folder, open_study(folder))
    show(found.to_json() if as_json else "\n".join(status_lines(found)))


@app.command()
def report(
    run: RUN, reports: REPORTS = Path("reports"), metric: METRIC = None,
    max_latency_ms: MAX_LATENCY = None, max_parameters: MAX_PARAMETERS = None, max_memory_mb: MAX_MEMORY = None,
) -> None:  # fmt: skip
    """Write the leaderboard report of a study; also while it runs."""
    from automl.ranking.limits import Limits
    from automl.reporting import write_report

    folder, limits = _study(run), Limits(max_latency_ms, max_parameters, max_memory_mb)
    show(write_report(folder, reports, open_study(folder), limits, _known(metric)))


@app.command()
def refit(
    run: RUN,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="trial number; default: the best")] = None,
    reports: REPORTS = Path("reports"),
) -> None:
    """Retrain a trial's configuration in full on train + validation, score it on the test split, package it."""
    _make_room()
    from automl import handing_over
    from automl.refit import in_words
    from automl.search.trial import prepare_process

    prepare_process(None)
    folder = _study(run)
    log_to(folder.log)
    metrics = handing_over.refit_trial(folder, reports, trial)
    show(f"{folder.model}: test {in_words(metrics)} on {metrics['test']['images']} images")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="study folder or model package")],
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH…", help="images, folders, tables")] = None,
    style: Annotated[PredictFormat, typer.Option("--format")] = PredictFormat.table,
    split: Annotated[
        str | None, typer.Option("--split", help="instead of PATH: a split of the study, such as test")
    ] = None,
) -> None:
    """Apply the winner to images."""
    from automl.paths import StudyFolder
    from automl.refit import find_images, format_predictions
    from automl.refit import predict as apply

    if split is not None and paths:
        raise UsageError("give either images or --split, not both")
    folder = _package(model)
    truth: dict[str, str] = {}
    if split is not None:
        truth = _labelled(StudyFolder(model), split)
        if split == "test":
            _open_test(StudyFolder(model))
    elif not paths:
        raise UsageError("nothing to predict: give images, folders or tables, or --split test")
    images = [Path(each) for each in truth] if truth else find_images(paths or [])
    progress = Progress()
    predictions, package = apply(folder, images, progress=lambda done, total: progress("predict", done, total))
    show(format_predictions(predictions, package.labels, style.value))
    unread = sum(each.label is None for each in predictions)
    if truth:
        right = sum(each.label == truth[each.path] for each in predictions)
        say(f"accuracy {right / len(predictions):.4f}: {right} of {len(predictions)} images of the {split} split")
    if unread:
        say(f"{unread} of {len(predictions)} images could not be read; the reasons are in the output")
    if unread == len(predictions):
        raise DataError("none of the images could be read")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(metavar="RUN|MODEL", help="study folder or model package")],
    style: Annotated[ExportFormat, typer.Option("--format")],
    out: Annotated[Path | None, typer.Option("--out", help="file to write; default: in the package")] = None,
) -> None:
    """Write the winner as ONNX or as a torch.export program, checked against the original."""
    from automl.refit.export import export_package

    folder = _package(model)
    show(export_package(folder, style.value, out))


@app.command()
def backbones(
    pattern: Annotated[str, typer.Argument(help="shell pattern, such as '*resnet50*' or 'torchvision/*'")] = "*",
) -> None:
    """List the backbones that a search space may name."""
    from automl.backbones import names

    found = names(pattern)
    if not found:
        raise UsageError(f'no backbone matches "{pattern}"{did_you_mean(pattern, names("*"))}')
    show("\n".join(found))


@app.command()
def demo(
    out: OUT = None, budget: BUDGET = None, trials: TRIALS = None, seed: SEED = None, reports: REPORTS = Path("reports")
) -> None:
    """Run the main job on packaged images and weights: simulated textile inspection, three small backbones."""
    from automl.demo import write_manifest

    target = out or Path("runs") / "demo"
    manifest = write_manifest(target.with_name(target.name + "-data"))
    _search(
        manifest, "demo", budget, trials, target, seed, reports, None, None, None, False, None, None, plan_only=False
    )


@app.command()
def doctor() -> None:
    """Check this installation: versions, device, precision, Ray, and where weights are looked for."""
    from automl.doctor import check

    failed = False
    for name, passed, text in check():
        failed = failed or not passed
        show(f"{'ok  ' if passed else 'FAIL'}  {name}: {text}")
    if failed:
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    show(__version__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: errors that a person can cause end in one line and their exit code."""
    global _started
    _started = time.monotonic()
    quick = arguments is None and sys.argv[1:2] == ["leaderboard"]
    if quick:
        gc.disable()
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except AutoMLError as error:
        lines = error.problems if isinstance(error, ConfigError) else str(error).splitlines() or [type(error).__name__]
        for line in lines:
            say(f"error: {line}")
        code = error.exit_code
    except typer._click.exceptions.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if quick:
        _leave(code or 0)
    sys.exit(code or 0)


def _leave(code: int) -> None:
    """Exit at once: to collect garbage and take 10,000 trials apart takes half a second, and nothing waits for it."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _make_room() -> None:
    """Before torch is imported: see that other programs do not bring the training to a standstill."""
    from automl.neighbours import make_room

    if found := make_room():
        say(found)


def _search(
    data: Path, space: str, budget: str | None, trials: int | None, out: Path | None, seed: int | None, reports: Path,
    weights_dir: Path | None, ray_address: str | None, storage: str | None, as_json: bool,
    warm_start: list[Path] | None, repeats: int | None, *, plan_only: bool,
) -> None:  # fmt: skip
    _make_room()
    from automl import pipeline
    from automl.paths import StudyFolder

    if not data.exists():
        raise DataError(f"no such file or folder: {data}")
    config = _config(space, data, budget, trials, seed, storage, warm_start, repeats)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    if out is not None and not str(out).strip(" ."):
        raise UsageError("--out: a folder of its own is needed, such as runs/NAME")
    root = out or Path("runs") / f"{data.resolve().stem}-{'plan-' if plan_only else ''}{stamp}"
    folder = StudyFolder(root)
    try:
        if root.exists() and not root.is_dir():
            raise OutputError(f"cannot write to {root}: it is a file; choose another --out")
    except OSError as error:
        raise OutputError(f"cannot write to {root}: {error.strerror or error}; choose another --out") from error
    log_to(folder.log)
    with signals(root) as interrupt, live_status(folder):
        page = pipeline.search(
            config, folder, reports, weights_dir=weights_dir, ray_address=ray_address, interrupt=interrupt,
            progress=Progress(), show_plan=show_plan, plan_only=plan_only, started=_started,
        )  # fmt: skip
    if plan_only:
        given = [("--budget", budget), ("--trials", trials), ("--seed", seed), ("--repeats", repeats), ("--out", root)]
        given += [("--weights-dir", weights_dir), ("--ray-address", ray_address)]
        given += [("--warm-start", each) for each in warm_start or ()]
        options = [str(each) for name, value in given if value is not None for each in (name, value)]
        begins = join(["automl", "search", "--space", space, *options, "--", str(data)])
        say(f"Search       {begins}    (uses what was decoded and embedded; what trials cost is measured again)")
        show(folder.plan)
        return
    close(root, page, interrupt.code, as_json)


def _config(
    space: str, data: Path, budget: str | None, trials: int | None, seed: int | None, storage: str | None,
    warm_start: list[Path] | None, repeats: int | None,
) -> SearchConfig:  # fmt: skip
    from automl.config import RunConfig, find_space, load_config, parse_duration

    config = load_config(find_space(space))
    changes: dict[str, Any] = {}
    try:
        if budget is not None:
            changes["budget"] = parse_duration(budget)
    except ValueError as error:
        raise UsageError(f"--budget: {error}") from None
    changes |= {
        key: value
        for key, value in (("trials", trials), ("seed", seed), ("storage", storage), ("repeats", repeats))
        if value is not None
    }
    if warm_start:
        changes["warm_start"] = [each.absolute() for each in warm_start]
    search = RunConfig.model_validate({**config.search.model_dump(), **changes})
    return config.model_copy(update={"search": search, "dataset": str(data.resolve())})


def _known(metric: str | None) -> str | None:
    from automl.ranking.statistics import METRICS

    if metric is not None and metric not in METRICS:
        guess = did_you_mean(metric, METRICS)
        raise UsageError(f'unknown metric "{metric}"{guess} (--metric takes {", ".join(METRICS)})')
    return metric


def _study(run: Path) -> Any:
    from automl.paths import StudyFolder, no_study

    folder = StudyFolder(run)
    if not folder.resolved.exists():
        raise UsageError(no_study(folder))
    return folder


def _package(model: Path) -> Path:
    """Return the folder of a model package: `model` itself, or that of a study, as good as it is by now."""
    from automl.handing_over import best_so_far
    from automl.paths import StudyFolder

    if (model / "package.json").exists():
        return model
    if not StudyFolder(model).resolved.exists():
        raise UsageError(f"no model in {model}: expected a model package, or the folder of a study")
    return best_so_far(StudyFolder(model))


def _open_test(folder: Any) -> None:
    """Count that the test images are scored before the model is chosen; what is handed over has been scored already."""
    from automl.ranking.files import load_json
    from automl.refit.refit import count_opening

    if "test" not in (load_json(folder.model / "metrics.json") or {}):
        opened = count_opening(folder)
        say(f"the test split is opened before the search has ended (time {opened}): model and report will count it")


def _labelled(folder: Any, split: str) -> dict[str, str]:
    from automl.data import Dataset

    dataset = Dataset.load(folder.manifest, folder.audit)
    try:
        rows = dataset.table.iloc[dataset.rows(split)]
    except ValueError as error:
        raise UsageError(str(error)) from None
    return dict(zip(rows["path"], rows["label"], strict=True))
