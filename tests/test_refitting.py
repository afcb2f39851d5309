"""The refit where memory, or the GPU of the search, is not there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest
import safetensors.torch
import torch
from optuna.trial import TrialState, create_trial

from automl import refitting
from automl.errors import NoTrialFinishedError
from automl.paths import StudyFolder
from automl.refitting import refit_best
from automl.search import trial
from automl.search.cluster import Resources
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, run_trial
from tests.small import RESNET, small_config, spec_of, with_pixels

CONFIG = small_config()


class Done:
    """A study folder with one trained trial, and that trial as Optuna has it."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder, self.spec = folder, spec_of(epochs=2)
        dataset = load_dataset(folder)
        rows = {"train_rows": dataset.rows("train"), "validation_rows": dataset.rows("validation")}
        run_trial(self.spec, folder, folder.trial(0), **rows)

    def trial(self, **attrs: Any) -> optuna.trial.FrozenTrial:
        known = {"spec": asdict(self.spec), "epochs": 2, "train_seconds": 1.0, "device": "cpu", "metrics": {}}
        made = create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs={**known, **attrs})
        made.number = 0
        return made


@pytest.fixture
def done(study_data: StudyFolder, tmp_path: Path) -> Done:
    shutil.copytree(study_data.root, tmp_path / "study")
    return Done(with_pixels(StudyFolder(tmp_path / "study"), RESNET))


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let there be memory to train on so many images at a time, and no more."""

    def limit(most: int) -> None:
        made = trial.build

        def build(*arguments: Any, **options: Any) -> torch.nn.Module:
            model = made(*arguments, **options)

            def refuse(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
                if module.training and len(inputs[0]) > most:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

            model.register_forward_pre_hook(refuse)
            return model

        monkeypatch.setattr(trial, "build", build)

    return limit


def refitted_with(folder: StudyFolder) -> TrialSpec:
    found = TrialSpec.read(folder.refit.spec)
    assert found is not None
    return found


def test_a_refit_that_runs_out_of_memory_goes_on_with_half_as_many_images_at_a_time(
    done: Done, memory_for: Callable[[int], None]
) -> None:
    memory_for(8)  # of batches of 16
    metrics = refit_best(CONFIG, done.folder, done.trial())
    assert (metrics["refitted"], metrics["epochs"]) == (True, 2)
    assert (refitted_with(done.folder).micro_batch, refitted_with(done.folder).batch_size) == (8, 16)
    assert "8 images at a time" in metrics["note"]


def test_an_interrupted_refit_goes_on_with_as_few_images_at_a_time(
    done: Done, memory_for: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    memory_for(8)
    written, write = list[Path](), trial.write_atomic

    def interrupted(path: Path, content: Any) -> None:
        written.append(path)
        if written.count(done.folder.refit.metrics) == 2:
            raise KeyboardInterrupt
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(trial, "write_atomic", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refit_best(CONFIG, done.folder, done.trial())
    assert refitted_with(done.folder).micro_batch == 8
    caplog.clear()
    with caplog.at_level("INFO", logger="automl"):
        metrics = refit_best(CONFIG, done.folder, done.trial())
    assert metrics["refitted"] is True
    assert "refit epoch 2/2" in caplog.text
    assert "refit epoch 1/2" not in caplog.text


def test_without_memory_for_any_refit_the_trial_is_handed_over(done: Done, memory_for: Callable[[int], None]) -> None:
    memory_for(7)
    metrics = refit_best(CONFIG, done.folder, done.trial())
    assert metrics["refitted"] is False
    assert "ran out of memory twice: CUDA out of memory" in metrics["note"]
    own = safetensors.torch.load_file(done.folder.trial(0).weights)
    handed = safetensors.torch.load_file(done.folder.model / "model.safetensors")
    assert all(torch.equal(own[name], value) for name, value in handed.items() if name in own)
    done.folder.trial(0).weights.unlink()
    with pytest.raises(NoTrialFinishedError, match=r"ran out of memory twice.*automl refit .*study --trial 0"):
        refit_best(CONFIG, done.folder, done.trial())


def test_what_a_gpu_trained_is_not_refitted_in_a_hurry_on_a_machine_without(done: Done) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    in_time: dict[str, Any] = {"seconds": 1e6, "epoch_seconds": 0.01, "foreseen_on": "NVIDIA H100"}
    metrics = refit_best(CONFIG, done.folder, done.trial(), **in_time)
    assert (metrics["refitted"], metrics["test_opened"]) == (False, 1)
    assert "foreseen on NVIDIA H100, and the machine of this command has no GPU" in metrics["note"]
    assert refit_best(CONFIG, done.folder, done.trial(), **in_time) == metrics  # the test images are not scored again
    assert refit_best(CONFIG, done.folder, done.trial())["refitted"] is True  # as long as it takes: automl refit


IN_TIME: dict[str, Any] = {"seconds": 1e6, "epoch_seconds": 0.01, "foreseen_on": "NVIDIA H100", "ray_address": "auto"}


@pytest.fixture
def connected(one_cluster: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(refitting, "cluster", lambda *asked: contextlib.nullcontext())


@pytest.fixture
def with_gpus(connected: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' cluster as if it had a GPU, which its tasks do not ask for."""
    each_task = refitting.each_task
    monkeypatch.setattr(refitting, "resources", lambda *asked: (Resources(1, 1.0, 1), "one of them"))
    monkeypatch.setattr(
        refitting,
        "each_task",
        lambda call, work, share, **options: each_task(call, work, share._replace(gpus=0), **options),
    )


@pytest.mark.usefixtures("with_gpus")
def test_a_cluster_with_gpus_refits_for_a_machine_without(done: Done) -> None:
    metrics = refit_best(CONFIG, done.folder, done.trial(), **IN_TIME)
    assert (metrics["refitted"], metrics["epochs"], metrics["test_opened"]) == (True, 2, 1)
    with pytest.raises(NoTrialFinishedError, match=r"diverged.*automl refit .*study --trial N"):
        refit_best(CONFIG, done.folder, done.trial(spec=asdict(spec_of(learning_rate=1e30))), **IN_TIME)


@pytest.mark.usefixtures("with_gpus")
def test_what_cannot_be_refitted_on_the_cluster_is_handed_over(done: Done, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere = done.trial(spec=asdict(spec_of(weights="/on/another/machine")))
    metrics = refit_best(CONFIG, done.folder, elsewhere, **IN_TIME)
    assert metrics["refitted"] is False
    assert metrics["note"].startswith("its refit on the cluster ended with: ")
    assert "/on/another/machine" in metrics["note"]
    done.folder.trial(0).weights.unlink()
    with pytest.raises(NoTrialFinishedError, match=r"on the cluster ended with: .*/on/another/machine"):
        refit_best(CONFIG, done.folder, elsewhere, **IN_TIME)


@pytest.mark.usefixtures("connected")
def test_a_cluster_that_has_lost_its_gpus_refits_nothing(done: Done) -> None:
    metrics = refit_best(CONFIG, done.folder, done.trial(), **IN_TIME)
    assert (metrics["refitted"], metrics["note"]) == (
        False, "its refit on the cluster ended with: the cluster has no GPU",
    )  # fmt: skip
