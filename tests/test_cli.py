"""The command line: what it refuses, in one line and with which exit code, and what needs no search."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from automl import __version__
from automl.cli import app, main
from automl.config import dump_config, load_config
from automl.data import Dataset
from automl.demo import write_manifest
from automl.paths import StudyFolder
from automl.search import cluster
from automl.search.lock import driver_lock
from automl.search.storage import load_study
from tests.images import class_folders
from tests.small import SPACE, coloured, new_record, small_config


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def automl(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Ran]]:
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(each) for each in arguments])
        out, err = capsys.readouterr()
        return Ran(int(end.value.code or 0), out, err)

    yield run
    for handler in [*logging.getLogger("automl").handlers]:
        logging.getLogger("automl").removeHandler(handler)
        handler.close()


def assert_refused(ran: Ran, code: int, *words: str) -> None:
    """Exit code, nothing on stdout, no traceback, and the last line of stderr names what is wrong."""
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert "Traceback" not in ran.err
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    for word in words:
        assert word in errors[0]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path / "space.yaml"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "images", {"cat": 8, "dog": 8})


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, ["no images in"]),
        ({"only": 5}, ['only one class ("only")', "at least two"]),
        ({"many": 9, "few": 1}, ["few"]),
    ],
)
def test_data_that_cannot_be_searched(
    automl: Callable[..., Ran], space: Path, tmp_path: Path, counts: dict[str, int], words: list[str]
) -> None:
    (tmp_path / "data").mkdir()
    class_folders(tmp_path / "data", counts)
    assert_refused(automl("search", "data", "--space", space, "--out", "runs/x"), 3, *words)
    assert not (tmp_path / "runs" / "x" / "study.db").exists()


def test_no_data_at_all(automl: Callable[..., Ran], space: Path) -> None:
    assert_refused(automl("search", "none", "--space", space), 3, "no such file or folder: none")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("timm/test_resnet.r160_in1k", "timm/test_resnt.r160_in1k"), ["test_resnt", 'did you mean "']),
        (("epochs: 4", "epoks: 4"), [":11:", 'unknown key "epoks"', 'did you mean "epochs"?']),
        (("learning_rate", "lerning_rate"), ['unknown hyperparameter "lerning_rate"', 'did you mean "learning_rate"?']),
        (("test_resnet.r160_in1k, weights: none", "test_resnet.r160_in1k, weights: /none.pt"), ["/none.pt"]),
        (("budget: 10m", "budget: soon"), ['not a duration: given "soon"']),
    ],
    ids=["backbone", "key", "parameter", "weights", "duration"],
)
def test_a_space_that_cannot_be_used(
    automl: Callable[..., Ran], space: Path, tmp_path: Path, change: tuple[str, str], words: list[str]
) -> None:
    class_folders(tmp_path / "data", {"a": 4, "b": 4})
    space.write_text(SPACE.replace(*change, 1))
    assert_refused(automl("search", "data", "--space", space, "--out", "runs/x"), 2, *words)


def test_every_mistake_of_a_space_has_its_line(automl: Callable[..., Ran], space: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "data", {"a": 4, "b": 4})
    space.write_text(SPACE.replace("epochs: 4", "epoks: 4").replace("budget: 10m", "budgt: 10m"))
    ran = automl("search", "data", "--space", space)
    assert ran.code == 2
    assert [line.split(": ")[0] for line in ran.err.splitlines()] == ["error", "error"]


def test_a_space_that_is_not_there(automl: Callable[..., Ran], tmp_path: Path) -> None:
    class_folders(tmp_path / "data", {"a": 4, "b": 4})
    assert_refused(automl("search", "data", "--space", "labtop"), 2, 'did you mean "laptop"?')
    assert_refused(automl("search", "data", "--space", "no/such.yaml"), 2, "no/such.yaml")


@pytest.mark.parametrize("out", ["taken", "taken/below", "/proc/none"])
def test_an_output_that_cannot_be_written(automl: Callable[..., Ran], space: Path, tmp_path: Path, out: str) -> None:
    coloured(tmp_path / "data", 4)
    (tmp_path / "taken").write_text("a file")
    assert_refused(automl("search", "data", "--space", space, "--out", out), 2, "cannot write to", out)


def test_a_storage_that_cannot_be_reached_is_noticed_first(
    automl: Callable[..., Ran], space: Path, tmp_path: Path
) -> None:
    coloured(tmp_path / "data", 4)
    ran = automl("search", "data", "--space", space, "--out", "runs/x", "--storage", "sqlite:////proc/none/x.db")
    assert_refused(ran, 5, "cannot use study storage")
    assert "audit" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["search"], ["search", "data", "--trials", "0"], ["search", "data", "--seed", str(2**32)], ["serach", "data"],
        ["search", "data", "--speed"], ["leaderboard", "run", "--format", "xml"], ["export", "run"],
        ["search", "data", "--budget", "soon"], ["search", "data", "--budget", "0s"],
        ["resume", "r", "--trials", "two"],
        ["resume", "r", "--trials", "+0"], ["resume", "r", "--budget", "later"], ["backbones", "resnet5O*"],
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_code_2_without_a_traceback(
    automl: Callable[..., Ran], tmp_path: Path, arguments: list[str]
) -> None:
    class_folders(tmp_path / "data", {"a": 4, "b": 4})
    ran = automl(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Traceback" not in ran.err
    assert ran.err.strip()


@pytest.mark.parametrize(
    "command", [["resume"], ["leaderboard"], ["report"], ["refit"], ["refit", "--trial", "3"]], ids=" ".join
)
def test_commands_that_need_a_study_first(automl: Callable[..., Ran], tmp_path: Path, command: list[str]) -> None:
    for run in ("none", "."):
        assert_refused(automl(command[0], run, *command[1:]), 2, f"no study in {run}", "start one with automl search")
    assert list(tmp_path.iterdir()) == []


def test_commands_that_need_a_model_first(automl: Callable[..., Ran], tmp_path: Path) -> None:
    save = class_folders(tmp_path / "data", {"a": 1})
    assert_refused(automl("predict", "none", save), 2, "no model in none")
    assert_refused(automl("predict", ".", "--split", "test"), 2, "no model in .")
    assert_refused(automl("export", "none", "--format", "onnx"), 2, "no model in none")


@pytest.fixture
def begun(tmp_path: Path, study_data: StudyFolder) -> StudyFolder:
    """A study that was begun and has no finished trial."""
    from automl.config import dump_config

    folder = StudyFolder(tmp_path / "runs" / "begun")
    shutil.copytree(study_data.root, folder.root)
    config = small_config().model_copy(update={"dataset": str(tmp_path / "gone")})
    record = new_record(folder, config)
    record.study.set_user_attr("metric", "accuracy")
    record.study.set_user_attr("dataset_fingerprint", "other")
    folder.resolved.write_text(dump_config(config))
    return folder


def test_a_second_driver_is_refused(
    automl: Callable[..., Ran], begun: StudyFolder, space: Path, tmp_path: Path
) -> None:
    with driver_lock(begun):
        for command in (["resume", begun.root], ["refit", begun.root]):
            ran = automl(*command)
            assert_refused(ran, 5, "is in use by process", str(os.getpid()), socket.gethostname())
        assert automl("leaderboard", begun.root).code == 0  # reading does not disturb


def test_a_study_is_not_begun_twice_nor_resumed_on_other_data(
    automl: Callable[..., Ran], begun: StudyFolder, space: Path, tmp_path: Path
) -> None:
    coloured(tmp_path / "data", 4)
    ran = automl("search", "data", "--space", space, "--out", begun.root)
    assert_refused(ran, 2, "holds a study already", f"automl resume {begun.root}")
    assert_refused(automl("resume", begun.root), 2, "have changed since the study began", "is not the study's")


def test_nothing_finished_yet(automl: Callable[..., Ran], begun: StudyFolder) -> None:
    assert_refused(automl("refit", begun.root), 4, "no trial of", "has finished")
    assert_refused(automl("refit", begun.root, "--trial", "0"), 2, "no trial 0")
    board = json.loads(automl("leaderboard", begun.root, "--format", "json").out)
    assert board["rows"] == []
    for style in ("table", "csv", "md"):
        assert automl("leaderboard", begun.root, "--format", style).code == 0
    ran = automl("report", begun.root, "--reports", "pages")
    assert ran.code == 0
    assert Path(ran.out.strip()).read_text().startswith("<!")


def test_studies_are_compared(automl: Callable[..., Ran], begun: StudyFolder, tmp_path: Path) -> None:
    shutil.copytree(begun.root, tmp_path / "runs" / "copy")
    ran = automl("compare", begun.root, "runs/copy", "--format", "json")
    assert ran.code == 0
    content = json.loads(ran.out)
    assert content["same_data"] is True
    assert [each["run"] for each in content["studies"]] == [str(begun.root), "runs/copy"]
    for style in ("table", "csv", "md"):
        assert automl("compare", begun.root, "runs/copy", "--format", style).code == 0
    assert_refused(automl("compare", begun.root), 2, "compare needs two studies or more")
    assert_refused(automl("compare", begun.root, "none"), 2, "no study in none")


def test_limits_of_the_leaderboard(automl: Callable[..., Ran], begun: StudyFolder) -> None:
    limits = ["--max-latency-ms", "20", "--max-parameters", "5000000", "--max-memory-mb", "800"]
    board = json.loads(automl("leaderboard", begun.root, "--format", "json", *limits).out)
    assert board["limits"] == {"max_latency_ms": 20.0, "max_parameters": 5_000_000, "max_memory_mb": 800.0}
    assert automl("report", begun.root, "--reports", "pages", *limits).code == 0
    assert automl("leaderboard", begun.root, "--max-latency-ms", "-1").code == 2


def test_another_metric_of_the_leaderboard(automl: Callable[..., Ran], begun: StudyFolder) -> None:
    board = json.loads(automl("leaderboard", begun.root, "--format", "json", "--metric", "log_loss").out)
    assert (board["metric"], board["direction"]) == ("log_loss", "minimize")
    assert automl("report", begun.root, "--reports", "pages", "--metric", "auroc").code == 0
    for command in ("leaderboard", "report"):
        refused = automl(command, begun.root, "--metric", "acuracy")
        assert_refused(refused, 2, 'unknown metric "acuracy": did you mean "accuracy"?', "macro_f1, log_loss, auroc")


def test_a_damaged_study_is_one_line(automl: Callable[..., Ran], begun: StudyFolder) -> None:
    begun.database.write_bytes(b"not a database" * 500)
    for leftover in begun.root.glob("study.db-*"):
        leftover.unlink()
    assert_refused(automl("leaderboard", begun.root), 5, "study.db: the file is damaged")
    begun.resolved.write_text("backbones: 3\n")
    assert_refused(automl("leaderboard", begun.root), 2, "resolved.yaml:1")


def test_help_names_every_command(automl: Callable[..., Ran]) -> None:
    ran = automl("--help")
    assert ran.code == 0
    for command in commands():
        assert f" {command} " in ran.out
        page = automl(command, "--help")
        assert page.code == 0
        assert "Usage: automl" in page.out or "Usage:" in page.out


def commands() -> list[str]:
    return [each.name or each.callback.__name__ for each in app.registered_commands if each.callback]


def test_things_to_look_up(automl: Callable[..., Ran]) -> None:
    assert automl("version").out.strip() == __version__
    found = automl("backbones", "*test_resnet*")
    assert (found.code, "timm/test_resnet.r160_in1k" in found.out.split()) == (0, True)
    assert automl("backbones", "torchvision/vgg16_bn*").out.split() == ["torchvision/vgg16_bn.IMAGENET1K_V1"]


def test_the_doctor_says_what_it_found(
    automl: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "cluster", lambda address: contextlib.nullcontext())
    monkeypatch.setattr(cluster, "resources", lambda *asked: (cluster.Resources(2, 0.0, 1), "2 CPUs"))
    monkeypatch.setenv("AUTOML_WEIGHTS_DIR", str(tmp_path))
    ran = automl("doctor")
    assert (ran.code, "FAIL" in ran.out) == (0, False)
    for word in ("packages: torch", "device:", "cores:", "ray:", "weights dir:", "hub cache:", "folder: is writable"):
        assert word in ran.out
    monkeypatch.setenv("AUTOML_WEIGHTS_DIR", str(tmp_path / "none"))
    ran = automl("doctor")
    assert (ran.code, "FAIL  weights dir" in ran.out) == (1, True)


def test_the_demos_data(tmp_path: Path) -> None:
    pytest.importorskip("conformal_clip_data")
    table = pd.read_csv(write_manifest(tmp_path / "demo"))
    assert table["split"].value_counts().to_dict() == {"train": 450, "validation": 150, "test": 600}
    assert set(table["label"]) == {"nominal", "global", "local"}
    assert table["path"].is_unique
    assert all(Path(path).is_file() for path in table["path"])
    again = pd.read_csv(write_manifest(tmp_path / "demo"))
    pd.testing.assert_frame_equal(table, again)


def run_in_shell(command: str) -> tuple[int, str]:
    """Return the exit code of automl in ``automl … | …`` and what is on stderr."""
    automl = f'{shlex.quote(sys.executable)} -c "from automl.cli import main; main()"'
    done = subprocess.run(
        ["bash", "-c", command.replace("automl", automl, 1) + "; exit ${PIPESTATUS[0]}"], capture_output=True, text=True
    )
    return done.returncode, done.stderr


def test_a_leaderboard_that_leaves_at_once_is_whole_and_has_its_exit_code(
    automl: Callable[..., Ran], begun: StudyFolder, tmp_path: Path
) -> None:
    """As a process of its own it takes nothing apart at its end."""
    here = automl("leaderboard", begun.root, "--format", "json").out
    assert run_in_shell(f"automl leaderboard {shlex.quote(str(begun.root))} --format json | cat > {tmp_path}/o") == (
        0,
        "",
    )
    assert json.loads((tmp_path / "o").read_text()) == json.loads(here)
    code, err = run_in_shell("automl leaderboard /nowhere")
    assert (code, err.startswith("error: no study in /nowhere")) == (2, True)


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    assert run_in_shell("automl backbones | head -1") == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_result_that_cannot_be_written_is_one_line() -> None:
    code, err = run_in_shell("automl backbones > /dev/full")
    assert (code, err) == (2, "error: cannot write to standard output: No space left on device\n")


def test_without_a_stderr_results_stay_results() -> None:
    assert run_in_shell("automl backbones nothing-of-the-kind 2>&- | grep -c .")[0] == 2


def test_predict_takes_images_or_a_split(automl: Callable[..., Ran], begun: StudyFolder) -> None:
    (begun.model).mkdir()
    assert_refused(automl("predict", begun.root, "x.png", "--split", "test"), 2, "not both")


@pytest.mark.parametrize("out", ["", ".", " "])
def test_a_study_has_a_folder_of_its_own(automl: Callable[..., Ran], space: Path, images: Path, out: str) -> None:
    assert_refused(automl("search", images, "--space", space, "--out", out), 2, "--out")


def test_a_database_of_somebody_else_is_left_alone(automl: Callable[..., Ran], space: Path, images: Path) -> None:
    Path("mine").mkdir()
    Path("mine/study.db").write_text("precious")
    assert_refused(automl("search", images, "--space", space, "--out", "mine"), 2, "choose another --out")
    assert Path("mine/study.db").read_text() == "precious"


def test_a_name_that_is_too_long_is_one_line(automl: Callable[..., Ran], space: Path, images: Path) -> None:
    assert_refused(automl("search", images, "--space", space, "--out", "x" * 300), 2, "File name too long")


def test_what_was_killed_before_its_first_trial_is_begun_again(automl: Callable[..., Ran], begun: StudyFolder) -> None:
    begun.resolved.unlink()
    for command in ("resume", "leaderboard", "status"):
        assert_refused(automl(command, begun.root), 2, "nothing was begun", "give its search again with the same --out")


@pytest.mark.parametrize("plan", ["{}", "[]", '{"screening": [{}]}', "null"])
def test_a_plan_that_is_none_is_one_line(automl: Callable[..., Ran], begun: StudyFolder, plan: str) -> None:
    load_study(begun).set_user_attr("dataset_fingerprint", Dataset.load(begun.manifest, begun.audit).fingerprint)
    begun.plan.write_text(plan)
    assert_refused(automl("resume", begun.root), 2, "cannot read the plan")


def test_an_edited_space_that_lacks_what_the_study_tried_is_refused(
    automl: Callable[..., Ran], begun: StudyFolder
) -> None:
    config = load_config(begun.resolved)
    study = load_study(begun)
    study.set_user_attr("dataset_fingerprint", Dataset.load(begun.manifest, begun.audit).fingerprint)
    study.set_user_attr("config", dump_config(config))
    text = begun.resolved.read_text()
    begun.resolved.write_text(text.replace("metric: accuracy", "metric: log_loss"))
    assert begun.resolved.read_text() != text
    ran = automl("resume", begun.root)
    assert (ran.code, ran.out) == (2, "")
    assert "error: search.metric: accuracy in the study, log_loss in the new space" in ran.err


def test_a_dead_search_has_nothing_running(automl: Callable[..., Ran], begun: StudyFolder) -> None:
    load_study(begun).ask()
    assert json.loads(automl("status", begun.root, "--json").out)["running"] == []


def test_the_command_line_starts_without_the_libraries_of_a_search() -> None:
    """Half a second of every command, also of those that need none of it."""
    heavy = ("optuna", "ray", "sqlalchemy", "torch")
    code = f"import sys, automl.cli; print([each for each in {heavy} if each in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
