"""Whole searches by the command line, on sixty small images and two tiny backbones."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pandas as pd
import psutil
import pytest
from optuna.trial import TrialState

from automl import pipeline, resuming, stages
from automl.cli import main
from automl.config import SearchConfig
from automl.data import Dataset
from automl.handing_over import resolved
from automl.paths import StudyFolder
from automl.ranking.leaderboard import best_trial
from automl.refitting import refit_best
from automl.search import planning
from automl.search.cluster import Resources
from automl.search.plan import Screened, load_plan
from automl.search.screen import screen_backbone
from automl.search.spec import TrialSpec
from automl.search.storage import load_study
from automl.search.study import counts
from tests.small import CONVNEXT, EFFICIENTNET, RESNET, coloured, random_weights

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Tune's actors and loggers

SPACE = """
backbones:
  - {name: timm/test_resnet.r160_in1k, weights: %s}
  - {name: timm/test_efficientnet.r160_in1k, weights: none}
params:
  freeze_depth: [0.0, 1.0]
  resolution: [32]
  learning_rate: {low: 1.0e-3, high: 1.0e-1, log: true}
  augmentation: [none, light]
  batch_size: 16
training: {epochs: 2, warmup_epochs: 0.5}
search: {budget: 20m, grace_epochs: 1, reduction: 2, concurrency: 1, cpus_per_trial: 1, seed: 5, repeats: 0}
data: {validation_fraction: 0.2, test_fraction: 0.2}
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def automl(*arguments: object) -> Ran:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    for handler in [*logging.getLogger("automl").handlers]:
        logging.getLogger("automl").removeHandler(handler)
        handler.close()
    return Ran(int(end.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module", autouse=True)
def own_precision() -> Iterator[None]:
    """Trials train in the CPU's own: in which precision a step of a tiny backbone is quicker, is noise as well."""

    def screened(
        root: str, spec: TrialSpec, resolutions: list[int], share: float = 1.0
    ) -> Screened:  # pickled by its value, to Ray
        found = screen_backbone(root, spec, resolutions, share)
        return replace(found, cost=replace(found.cost, training_dtype="auto"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "screen_backbone", screened)
        yield


@pytest.fixture(scope="module", autouse=True)
def order_of_backbones() -> Iterator[None]:
    """By promise alone: what tiny backbones cost is noise where several tests run at once, and so is their order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "AS_CHEAP", 1e9)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, one of them corrupt, and a search space."""
    root = tmp_path_factory.mktemp("place")
    coloured(root / "images")
    (root / "images" / "red" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (root / "space.yaml").write_text(SPACE % random_weights(root / "resnet.safetensors"))
    return root


@pytest.fixture(scope="module")
def on_one_cluster(one_cluster: Resources) -> Iterator[None]:
    """Commands use the tests' cluster instead of starting one each."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (pipeline, resuming):
            patch.setattr(module, "cluster", lambda *asked: contextlib.nullcontext())
        yield


@pytest.fixture(scope="module")
def searched(place: Path, on_one_cluster: None) -> Ran:
    """A search of seven trials in ``runs/folder``: six defaults and one of the sampler."""
    return automl("search", place / "images", "--space", place / "space.yaml", "--out", place / "runs" / "folder",
                  "--reports", place / "reports", "--trials", 7, "--json")  # fmt: skip


def board_of(run: Path) -> dict[str, Any]:
    ran = automl("leaderboard", run, "--format", "json")
    assert ran.code == 0
    board: dict[str, Any] = json.loads(ran.out)
    return board


def test_it_ends_with_a_leaderboard_a_report_and_a_model(searched: Ran, place: Path) -> None:
    assert searched.code == 0, searched.err
    board = json.loads(searched.out)
    assert board == board_of(place / "runs" / "folder")
    reported = json.loads((place / "reports" / "folder" / "leaderboard.json").read_text())
    assert board == {name: reported[name] for name in board}
    assert (board["stop_reason"], len(board["rows"])) == ("trials", 7)
    assert board["rows"][0]["rank"] == 1
    assert (place / "reports" / "folder" / "index.html").exists()
    assert "automl predict" in searched.err
    for stage in ("audit", "decode once", "screening", "Plan:", "trial 6 ends", "test split opened"):
        assert stage in searched.err


def test_the_first_head_is_trained_before_the_other_backbones_are_screened(searched: Ran, place: Path) -> None:
    assert searched.err.index("trial 0 ends: COMPLETE") < searched.err.index("Plan:")
    study = load_study(StudyFolder(place / "runs" / "folder"))
    assert study.user_attrs["spent_before"] == 0.0  # its time is of this command, and counts once
    first = study.get_trials()[0]
    assert (first.params["backbone"], first.params["freeze_depth"]) == (RESNET, 1.0)
    assert first.user_attrs["from_embeddings"]


def test_a_search_killed_during_its_screening_has_a_model_and_goes_on(
    place: Path, on_one_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StudyFolder(place / "runs" / "killed")
    screen = pipeline.screen

    def killed(config: SearchConfig, folder: StudyFolder, names: list[str], *rest: Any, **options: Any) -> Any:
        if EFFICIENTNET in names:
            raise KeyboardInterrupt
        return screen(config, folder, names, *rest, **options)

    monkeypatch.setattr(pipeline, "screen", killed)
    ran = automl("search", place / "images", "--space", place / "space.yaml", "--out", folder.root,
                 "--reports", place / "reports", "--trials", 6)  # fmt: skip
    assert ran.code == 130
    assert f"Go on with: automl resume {folder.root}" in ran.err
    rows = board_of(folder.root)["rows"]
    assert [(row["backbone"], row["params"]["freeze_depth"]) for row in rows] == [(RESNET, 1.0)]
    assert board_of(folder.root)["refit"] is None
    assert automl("predict", folder.root, "--split", "test").code == 0
    assert board_of(folder.root)["refit"] is None
    assert folder.test_opened.read_text() == "1"  # a look before the model is chosen counts
    monkeypatch.undo()
    ran = automl("resume", folder.root, "--reports", place / "reports")
    assert ran.code == 0, ran.err
    assert ran.err.count("screening: 1/1") == 1  # of the other one
    board = board_of(folder.root)
    assert {row["backbone"] for row in board["rows"]} == {RESNET, EFFICIENTNET}
    assert len(board["rows"]) == 6
    assert (board["refit"]["trial"], board["refit"]["refitted"]) == (board["rows"][0]["trial"], True)
    assert board["refit"]["test_opened"] == 2


def test_without_the_time_for_a_refit_the_best_trial_is_handed_over(searched: Ran, place: Path) -> None:
    folder = StudyFolder(place / "runs" / "short of time" / "folder")
    shutil.copytree(place / "runs" / "folder", folder.root)
    best = best_trial(load_study(folder))
    assert best is not None
    config = resolved(folder)
    metrics = refit_best(config, folder, best, seconds=2.0, epoch_seconds=2.0)
    assert (metrics["refitted"], metrics["trial"], metrics["test_opened"]) == (False, best.number, 2)
    assert metrics["note"] == "a refit takes about 4 s, and 2 s of the budget were left"
    table = automl("leaderboard", folder.root).out
    assert "Handed over as its trial left it, without a refit" in table
    assert (folder.refit.root / "test_opened").read_text() == "2"
    metrics = refit_best(config, folder, best, seconds=3.0, epoch_seconds=2.0)  # time for one of two epochs
    assert (metrics["refitted"], metrics["trained_on"], metrics["epochs"]) == (False, 1, 3)
    assert "Trained on for 1 epoch with the validation images" in automl("leaderboard", folder.root).out
    folder.trial(best.number).weights.unlink()  # of a trial that ran with an earlier version
    metrics = refit_best(config, folder, best, seconds=3.0, epoch_seconds=2.0)
    assert (metrics["refitted"], metrics["epochs"]) == (True, 1)


def test_the_study_says_everything(searched: Ran, place: Path) -> None:
    study = load_study(StudyFolder(place / "runs" / "folder"))
    attrs = study.user_attrs
    assert attrs["stage_seconds"].keys() == {"audit", "screening", "search", "refit"}
    assert (attrs["metric"], attrs["seed"], attrs["max_epochs"]) == ("accuracy", 5, 2)
    assert attrs["classes"] == ["blue", "green", "red"]
    origins = [trial.user_attrs["origin"] for trial in study.trials if trial.user_attrs["origin"] != "resume"]
    assert origins == ["default"] * 6 + ["sampler"]
    heads = [trial.params["backbone"] for trial in study.trials[:2]]
    assert heads == [RESNET, EFFICIENTNET]


def test_a_corrupt_image_is_set_aside_and_counted(searched: Ran, place: Path) -> None:
    folder = StudyFolder(place / "runs" / "folder")
    dataset = Dataset.load(folder.manifest, folder.audit)
    assert [Path(each["path"]).name for each in dataset.audit.quarantined] == ["torn.png"]
    assert len(dataset.table) == 60
    assert "1 images cannot be used and were quarantined" in searched.err
    assert "torn.png" in (place / "reports" / "folder" / "index.html").read_text()


def test_predict_says_of_the_test_split_what_the_leaderboard_says(searched: Ran, place: Path) -> None:
    run = place / "runs" / "folder"
    test = board_of(run)["refit"]["test"]
    ran = automl("predict", run, "--split", "test", "--format", "json")
    rows = json.loads(ran.out)
    assert len(rows) == test["images"] == 12
    right = sum(Path(row["path"]).parent.name == row["label"] for row in rows)
    assert right / len(rows) == test["accuracy"]
    assert f"accuracy {test['accuracy']:.4f}: {right} of 12" in ran.err
    assert automl("predict", run, "--split", "tset").code == 2
    assert automl("predict", run / "model", "--split", "test").code in (2, 3)


def test_predict_takes_files_folders_and_tables(searched: Ran, place: Path) -> None:
    run, red = place / "runs" / "folder", place / "images" / "red"
    one = automl("predict", run / "model", red / "0.png", "--format", "json")
    folder = automl("predict", run, red, "--format", "json")
    assert json.loads(one.out)[0]["label"] == json.loads(folder.out)[0]["label"]
    assert len(json.loads(folder.out)) == 21
    assert "1 of 21 images could not be read" in folder.err
    assert automl("predict", run, red / "torn.png").code == 3
    assert automl("predict", run).code == 2


def test_a_table_of_the_same_images_gives_the_same_leaderboard(searched: Ran, place: Path) -> None:
    """Under other names, in another order, one worker, the same seed."""
    moved = place / "moved"
    rows = []
    for number, path in enumerate(sorted((place / "images").glob("*/*.png"), key=lambda path: path.name)):
        moved.mkdir(exist_ok=True)
        shutil.copy(path, moved / f"{number:03d}.png")
        rows.append((f"moved/{number:03d}.png", path.parent.name))
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(place / "table.csv", index=False)
    ran = automl("search", place / "table.csv", "--space", place / "space.yaml", "--out", place / "runs" / "table",
                 "--reports", place / "reports", "--trials", 7)  # fmt: skip
    assert ran.code == 0, ran.err
    one, other = board_of(place / "runs" / "folder"), board_of(place / "runs" / "table")
    measured = {"train_seconds", "latency_ms", "peak_memory_mb", "startup_seconds", "on_front"}
    same = one["rows"][0].keys() & {"rank", "trial", "state", "backbone", "params", "score", "ci95", "epochs"}
    assert len(same) == 8
    assert not same & measured
    assert [{key: row[key] for key in same} for row in one["rows"]] == [
        {key: row[key] for key in same} for row in other["rows"]
    ]
    assert one["refit"]["test"] == other["refit"]["test"]


def test_a_finished_search_is_extended(searched: Ran, place: Path) -> None:
    run = place / "runs" / "extended"
    shutil.copytree(place / "runs" / "folder", run)
    moved = StudyFolder(run)
    optuna.copy_study(
        from_study_name="folder", from_storage=f"sqlite:///{moved.database}",
        to_storage=f"sqlite:///{moved.database}", to_study_name="extended",
    )  # fmt: skip
    before = load_study(moved).get_trials()
    ran = automl("resume", run, "--trials", "+1", "--reports", place / "reports")
    assert ran.code == 0, ran.err
    after = load_study(moved).get_trials()
    assert [trial.params for trial in after[: len(before)]] == [trial.params for trial in before]
    assert [trial.user_attrs["origin"] for trial in after[len(before) :]].count("sampler") == 1
    assert sum(map(counts, after)) == 8


def test_a_finished_search_goes_on_in_a_wider_space(searched: Ran, place: Path) -> None:
    """Backbones and choices are added at the ends of lists that the study stores by place."""
    run = StudyFolder(place / "runs" / "wider" / "folder")
    shutil.copytree(place / "runs" / "folder", run.root)
    wider = (place / "space.yaml").read_text().replace("[none, light]", "[affine, light, none]")
    wider = wider.replace("params:", f"  - {{name: {CONVNEXT}, weights: none}}\nparams:")
    (place / "wider.yaml").write_text(wider)
    before = load_study(run).get_trials()
    ran = automl("resume", run.root, "--space", place / "wider.yaml", "--trials", "+5", "--reports", place / "wider")
    assert ran.code == 0, ran.err
    after = load_study(run).get_trials()
    assert [(trial.params, trial.values) for trial in after[: len(before)]] == [
        (trial.params, trial.values) for trial in before
    ]
    tried = [trial.params["backbone"] for trial in after[len(before) :]]
    assert tried.count(CONVNEXT) >= 3  # its defaults first
    assert after[0].distributions["backbone"] == after[-1].distributions["backbone"]
    assert "Plan:" in ran.err


def test_latency_is_measured_at_a_resolution_that_is_added(searched: Ran, place: Path) -> None:
    old, run = StudyFolder(place / "runs" / "folder"), StudyFolder(place / "runs" / "larger" / "folder")
    shutil.copytree(old.root, run.root)
    (place / "larger.yaml").write_text((place / "space.yaml").read_text().replace("[32]", "[32, 64]"))
    ran = automl("resume", run.root, "--space", place / "larger.yaml", "--trials", "+1", "--reports", place / "larger")
    assert ran.code == 0, ran.err
    before, after = ({each.backbone: each.speeds for each in load_plan(at.plan).screened} for at in (old, run))
    assert {name: set(speeds) for name, speeds in after.items()} == {name: {32, 64} for name in before}
    assert all(after[name][32] == speeds[32] for name, speeds in before.items())
    assert load_study(run).get_trials()[-1].user_attrs["latency_ms"] > 0


def test_a_study_that_moved_to_another_device_is_screened_again(searched: Ran, place: Path) -> None:
    old, run = StudyFolder(place / "runs" / "folder"), StudyFolder(place / "runs" / "moved" / "folder")
    shutil.copytree(old.root, run.root)
    content = json.loads(run.plan.read_text())
    for each in content["screening"]:
        each |= {"device": "NVIDIA H100", "latency_ms": 1e6}
    run.plan.write_text(json.dumps(content))
    assert {each.cost.device for each in load_plan(run.plan).screened} == {"NVIDIA H100"}
    ran = automl("resume", run.root, "--trials", "+1", "--reports", place / "moved")
    assert ran.code == 0, ran.err
    assert "screening: 2/2" in ran.err
    screened = {each.backbone: each for each in load_plan(run.plan).screened}
    assert set(screened) == {RESNET, EFFICIENTNET}
    assert all(each.cost.device == "cpu" and each.cost.latency_ms < 1e5 for each in screened.values())
    before, after = (load_study(at).get_trials() for at in (old, run))
    assert [trial.params for trial in after[: len(before)]] == [trial.params for trial in before]
    assert len(after) == len(before) + 1


def test_a_space_that_lacks_what_was_tried_is_refused_with_every_difference(searched: Ran, place: Path) -> None:
    narrower = (place / "space.yaml").read_text().replace("[none, light]", "[affine]").replace("epochs: 2", "epochs: 3")
    narrower = narrower.replace(f"  - {{name: {EFFICIENTNET}, weights: none}}\n", "")
    (place / "narrower.yaml").write_text(narrower)
    ran = automl("resume", place / "runs" / "folder", "--space", place / "narrower.yaml")
    assert ran.code == 2
    for difference in ("backbones: the study has", "params.augmentation", "training.epochs: 2 in the study, 3 in the"):
        assert difference in ran.err


def test_status_says_how_a_study_stands(searched: Ran, place: Path) -> None:
    run = place / "runs" / "folder"
    ran = automl("status", run)
    assert ran.code == 0
    assert "not running (stopped by trials)" in ran.out
    states = [trial.state.name for trial in load_study(StudyFolder(run)).get_trials()]
    assert f"{states.count('COMPLETE')} complete" in ran.out
    found = json.loads(automl("status", run, "--json").out)
    assert (found["driver"], found["running"], found["trials"]["COMPLETE"]) == (None, [], states.count("COMPLETE"))
    assert found["best"]["score"] == board_of(run)["rows"][0]["score"]
    assert found["budget_seconds"] == 1200


def test_a_search_that_was_killed_says_what_it_left(searched: Ran, place: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    shutil.copytree(place / "runs" / "folder", run)
    study = load_study(StudyFolder(run))
    study.set_user_attr("stop_reason", None)
    study.ask()
    ran = automl("status", run)
    assert "not running (stopped by an interruption, a kill or an error)" in ran.out
    assert "1 left unfinished" in ran.out


def test_a_budget_too_short_for_one_trial_says_how_much_would_do(place: Path, on_one_cluster: None) -> None:
    run = place / "runs" / "short"
    ran = automl("search", place / "images", "--space", place / "space.yaml", "--out", run, "--budget", "1s")
    assert ran.code == 4
    assert "too short for one trial on this machine: use at least --budget" in ran.err
    assert "Traceback" not in ran.err
    assert not StudyFolder(run).resolved.exists()


def test_what_cannot_be_screened_is_told_and_looked_at_again_with_more_time(place: Path, on_one_cluster: None) -> None:
    run, weights = place / "runs" / "unscreened", random_weights(place / "swapped.safetensors")
    space = (place / "space.yaml").read_text()
    wrong = space.replace(f"{EFFICIENTNET}, weights: none", f"{EFFICIENTNET}, weights: {weights}")
    assert wrong != space
    (place / "wrong.yaml").write_text(wrong)
    ran = automl("search", place / "images", "--space", place / "wrong.yaml", "--out", run, "--trials", 2,
                 "--reports", place / "reports", "--repeats", 0)  # fmt: skip
    assert ran.code == 0, ran.err
    assert f"{EFFICIENTNET} is left out: it cannot be screened" in ran.err
    (left_out,) = json.loads((run / "plan.json").read_text())["unscreened"]
    assert left_out["backbone"] == EFFICIENTNET
    assert f"Not tried: {EFFICIENTNET}: it cannot be screened" in automl("leaderboard", run).out
    random_weights(weights, EFFICIENTNET)
    ran = automl("resume", run, "--budget", "+10m", "--trials", "+3", "--reports", place / "reports")
    assert ran.code == 0, ran.err
    assert {row["backbone"] for row in board_of(run)["rows"]} == {RESNET, EFFICIENTNET}
    assert json.loads((run / "plan.json").read_text())["unscreened"] == []


def test_a_plan_leaves_no_study_and_a_search_may_follow(place: Path, on_one_cluster: None) -> None:
    run = place / "runs" / "planned"
    given = ["--repeats", "0", "--weights-dir", place]
    ran = automl("plan", place / "images", "--space", place / "space.yaml", "--out", run, *given)
    assert ran.code == 0, ran.err
    made = json.loads(Path(ran.out.strip()).read_text())
    assert [each["backbone"] for each in made["screening"]] == [RESNET, EFFICIENTNET]
    assert not StudyFolder(run).database.exists()
    assert automl("resume", run).code == 2
    assert automl("predict", run, place / "images").code == 2
    (command,) = (line.split("    (")[0] for line in ran.err.splitlines() if line.startswith("Search  "))
    kept = {path: path.stat().st_mtime_ns for path in run.glob("embeddings/**/*.npy")}
    assert kept
    assert shlex.split(command)[1:3] == ["automl", "search"]
    assert "--repeats 0" in command  # nothing that was given is lost
    assert f"--weights-dir {place}" in command
    assert automl("search", "--trials", "2", "--reports", place / "reports", *shlex.split(command)[3:]).code == 0
    assert {path: path.stat().st_mtime_ns for path in run.glob("embeddings/**/*.npy") if path in kept} == kept


def test_another_trial_is_refitted(searched: Ran, place: Path) -> None:
    run = place / "runs" / "folder-2"
    shutil.copytree(place / "runs" / "folder", run)
    shutil.move(run, place / "elsewhere" / "folder")
    ran = automl("refit", place / "elsewhere" / "folder", "--trial", 0, "--reports", place / "elsewhere")
    assert ran.code == 0, ran.err
    metrics = json.loads((place / "elsewhere" / "folder" / "model" / "metrics.json").read_text())
    assert (metrics["trial"], metrics["test_opened"]) == (0, 2)
    assert "the test split was scored 2 times" in ran.err
    assert f"test accuracy {metrics['test']['accuracy']:.4f}" in ran.out


def start(mark: str, *arguments: object) -> subprocess.Popen[str]:
    """Start automl as a shell would, in a process group of its own; all its children carry `mark`."""
    command = [sys.executable, "-c", "from automl.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(
        command, env={**os.environ, "AUTOML_TEST_MARK": mark, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read stderr up to the line that has `text`."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came: {seen}")


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that descend from a command started with `mark`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("AUTOML_TEST_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def reasons(folder: StudyFolder) -> list[str]:
    return [trial.user_attrs.get("reason", trial.state.name) for trial in load_study(folder).get_trials()]


@pytest.mark.parametrize(
    "signals",
    [
        pytest.param([signal.SIGTERM], id="SIGTERM"),
        pytest.param([signal.SIGINT, signal.SIGTERM, signal.SIGKILL], id="three-ways", marks=pytest.mark.slow),
    ],
)
def test_a_search_that_is_stopped_goes_on(tmp_path: Path, on_one_cluster: None, signals: list[signal.Signals]) -> None:
    """Each driver of one study is stopped in the middle of a trial; a last one does what is left of the three."""
    coloured(tmp_path / "images")
    space = SPACE.replace("  - {name: timm/test_efficientnet.r160_in1k, weights: none}\n", "")
    space = space.replace("epochs: 2", "epochs: 30").replace("search: {", "search: {scheduler: none, ")
    (tmp_path / "space.yaml").write_text(space % "none")
    folder, mark = StudyFolder(tmp_path / "runs" / "study"), uuid.uuid4().hex
    reports = ("--reports", tmp_path / "reports")
    search = ("search", tmp_path / "images", "--space", tmp_path / "space.yaml", "--out", folder.root, "--trials", 3)

    expected = ["complete"]
    for number, sent in enumerate(signals, start=1):
        driver = start(mark, *(search if number == 1 else ("resume", folder.root)), *reports)
        read_until(driver, f"trial {number} epoch 2/" if number == 1 else f"trial {number} epoch")
        os.killpg(driver.pid, sent) if sent == signal.SIGINT else driver.send_signal(sent)  # Ctrl-C is for the group
        _, err = driver.communicate()
        assert psutil.wait_procs(marked(mark), timeout=60)[1] == []
        if sent == signal.SIGKILL:
            assert load_study(folder).get_trials()[number].state == TrialState.RUNNING
            continue
        assert driver.returncode == 128 + sent, err
        assert f"Go on with: automl resume {folder.root}" in err
        assert "Traceback" not in err
        expected.append("interrupted")
        assert reasons(folder) == [*expected, "WAITING"]
        assert load_study(folder).user_attrs["stop_reason"] == "interrupted"

    ran = automl("resume", folder.root, "--json", *reports)
    assert ran.code == 0, ran.err
    trials = load_study(folder).get_trials()
    assert all(trial.state.is_finished() for trial in trials)
    assert len([reason for reason in reasons(folder) if reason != "interrupted"]) == 3
    assert [trial.number for trial in trials] == list(range(len(trials)))
    defaults = [str(sorted(each.params.items())) for each in trials if each.user_attrs["origin"] == "default"]
    assert len(set(defaults)) == len(defaults) == 3
    for retry in (trial for trial in trials if trial.user_attrs["origin"] == "retry"):
        assert retry.params == trials[1].params
        assert retry.user_attrs["spec"] == trials[1].user_attrs["spec"]
    for trial in trials:
        epochs = [json.loads(line)["epoch"] for line in folder.trial(trial.number).metrics.read_text().splitlines()]
        assert epochs == list(range(1, len(epochs) + 1))
    assert json.loads(ran.out)["refit"]["test"]["images"] == 12
    attrs = load_study(folder).user_attrs
    assert sum(attrs["stage_seconds"].values()) == pytest.approx(attrs["spent_seconds"], abs=3)
