from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn import metrics as sk

from automl.errors import UsageError
from automl.paths import StudyFolder
from automl.ranking.statistics import wilson
from automl.refit import RefitSpec, adopt, affordable_epochs, epochs_on, load_package, predict, refit, score
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, run_trial
from automl.training import Outcome
from tests.refit.conftest import Refitted
from tests.small import spec_of

Fresh = Callable[..., StudyFolder]


def run(folder: StudyFolder, spec: TrialSpec, trial: int = 0) -> dict[str, Any]:
    return refit(RefitSpec(trial, spec, {}), folder, max_pixels=10**6)


def weights(folder: StudyFolder) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder.model / "model.safetensors")


def repaint(folder: StudyFolder, split: str) -> None:
    (path,) = folder.pixels.glob("*.npy")
    pixels = np.load(path, mmap_mode="r+")
    pixels[load_dataset(folder).rows(split)] = 77
    pixels.flush()


def test_metrics_say_what_was_done(refitted: Refitted) -> None:
    dataset = load_dataset(refitted.folder)
    metrics = refitted.metrics
    assert json.loads((refitted.folder.model / "metrics.json").read_text()) == metrics
    assert (metrics["trial"], metrics["epochs"], metrics["note"], metrics["test_opened"]) == (3, 4, "", 1)
    assert metrics["validation"] == {"accuracy": 0.5}
    assert metrics["train_images"] == len(dataset.rows("train")) + len(dataset.rows("validation"))
    assert metrics["test"]["images"] == len(dataset.rows("test"))
    assert not refitted.folder.refit.checkpoint.exists()
    assert TrialSpec.from_dict(json.loads(refitted.folder.refit.spec.read_text())) == refitted.spec


def test_the_package_says_of_the_test_images_what_was_scored(refitted: Refitted) -> None:
    table = load_dataset(refitted.folder).table
    test = table[table["split"] == "test"]
    predictions, package = predict(refitted.folder.model, [Path(path) for path in test["path"]])
    right = sum(each.label == label for each, label in zip(predictions, test["label"], strict=True))
    assert right == refitted.metrics["test"]["correct"]
    assert right / len(test) == refitted.metrics["test"]["accuracy"]
    confusion = sk.confusion_matrix(test["label"], [each.label for each in predictions], labels=package.labels)
    assert confusion.tolist() == refitted.metrics["test"]["confusion"]


def test_the_latency_of_what_is_handed_over_is_measured(refitted: Refitted) -> None:
    found = refitted.metrics["latency"]
    one, batch = found["one"], found["batch"]
    assert (one["images"], batch["images"]) == (1, 32)
    for each in (one, batch):
        assert 0 < each["median_ms"] <= each["p95_ms"]
        assert 3 <= each["passes"] <= 50
    card = (refitted.folder.model / "README.md").read_text()
    assert f"one image takes {one['median_ms']:.1f} ms (95 of 100 within {one['p95_ms']:.1f} ms)" in card
    assert f"On {found['device']} ({found['precision']})" in card


def test_what_it_said_of_the_test_images_is_kept(refitted: Refitted) -> None:
    kept, test = np.load(refitted.folder.test_logits), refitted.metrics["test"]
    assert int((kept["logits"].argmax(axis=1) == kept["targets"]).sum()) == test["correct"]
    assert len(kept["rows"]) == test["images"]


def test_train_and_validation_are_trained_on_and_test_is_not(fresh: Fresh) -> None:
    spec = spec_of(epochs=1, warmup_epochs=0.1)
    for head_only in (False, True):
        wanted = replace(spec, freeze_depth=1.0) if head_only else spec
        folder = fresh(name=f"study-{head_only}")
        run(folder, wanted)
        before = weights(folder)
        repaint(folder, "test")
        run(folder, wanted)
        after = weights(folder)
        assert all(torch.equal(before[name], after[name]) for name in before)
        repaint(folder, "validation")
        for kept in folder.embeddings.glob("*"):
            kept.unlink()  # keyed by the content of the images, which this test goes behind
        run(folder, wanted)
        assert not all(torch.equal(before[name], value) for name, value in weights(folder).items())


def test_every_look_at_the_test_split_is_counted(fresh: Fresh) -> None:
    folder, spec = fresh(), spec_of(epochs=1, warmup_epochs=0.1)
    assert [run(folder, spec)["test_opened"] for _ in range(3)] == [1, 2, 3]


def test_a_killed_refit_goes_on_and_another_one_starts_anew(fresh: Fresh) -> None:
    spec = spec_of(epochs=3)

    def kill(facts: dict[str, Any]) -> None:
        if facts["epoch"] == 2:
            raise KeyboardInterrupt

    folder, whole = fresh(), fresh(name="whole")
    with pytest.raises(KeyboardInterrupt):
        refit(RefitSpec(0, spec, {}), folder, max_pixels=10**6, report=kill)
    assert folder.refit.checkpoint.exists()
    assert not folder.model.exists()
    older = {name: value for name, value in json.loads(folder.refit.spec.read_text()).items() if name != "dtype"}
    folder.refit.spec.write_text(json.dumps(older))
    seen: list[int] = []
    refit(RefitSpec(0, spec, {}), folder, max_pixels=10**6, report=lambda facts: seen.append(facts["epoch"]))
    assert seen == [3]
    run(whole, spec)
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(folder).items())
    with pytest.raises(KeyboardInterrupt):
        refit(RefitSpec(0, spec, {}), folder, max_pixels=10**6, report=kill)
    assert run(folder, replace(spec, learning_rate=0.5))["epochs"] == 3


def test_a_refit_that_diverges_leaves_the_package_that_was_there(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spec = fresh(), spec_of(epochs=1, warmup_epochs=0.1)
    run(folder, spec)
    before = (folder.model / "metrics.json").read_text()
    outcome = Outcome("diverged", 2, 1.0, torch.nn.Identity())
    monkeypatch.setattr(sys.modules["automl.refit.refit"], "run_trial", lambda *arguments, **options: outcome)
    with pytest.raises(FloatingPointError, match="the refit of trial 5 diverged after 2 epochs"):
        run(folder, spec, trial=5)
    assert (folder.model / "metrics.json").read_text() == before


@pytest.mark.parametrize(
    ("seconds", "epochs", "warmup"),
    [(math.inf, 6, 2.0), (60.0, 6, 2.0), (59.0, 5, 2.0), (30.0, 3, 1.5), (10.0, 3, 1.5), (-5.0, 3, 1.5)],
)
def test_as_many_epochs_as_the_budget_has_left_and_at_least_half(seconds: float, epochs: int, warmup: float) -> None:
    spec = spec_of(epochs=6, warmup_epochs=2.0)
    cut, note = affordable_epochs(spec, seconds=seconds, epoch_seconds=10.0)
    assert (cut.epochs, cut.warmup_epochs) == (epochs, warmup)
    assert replace(cut, epochs=6, warmup_epochs=2.0) == spec
    assert (f"refitted for {epochs} of 6 epochs" in note) == (epochs < 6)


def test_a_score_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [40, 20, 6])
    logits = rng.normal(size=(66, 4)).astype(np.float32)
    logits[np.arange(66), targets] += 1.5
    found = score(logits, targets, ("a", "b", "c", "never seen"))
    predicted = logits.argmax(1)
    assert found["images"] == 66
    assert found["correct"] == (predicted == targets).sum()
    assert found["accuracy"] == sk.accuracy_score(targets, predicted)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(targets, predicted, average="macro", zero_division=0))
    assert found["confusion"] == sk.confusion_matrix(targets, predicted, labels=range(4)).tolist()
    for index, row in enumerate(found["per_class"]):
        assert row["support"] == (targets == index).sum()
        expected = sk.recall_score(targets, predicted, labels=[index], average=None, zero_division=0)[0]
        assert row["recall"] == pytest.approx(expected)
    assert found["ci95"] == pytest.approx(wilson(found["correct"], 66), abs=1e-6)
    json.dumps(found)


def test_the_model_that_was_scored_is_the_one_in_the_package(refitted: Refitted) -> None:
    model, package = load_package(refitted.folder.model)
    assert package.labels == load_dataset(refitted.folder).classes
    assert sum(each.numel() for each in model.parameters()) > 0
    assert not model.training


@pytest.mark.parametrize(("depth", "head"), [(0.0, "linear"), (1.0, "linear"), (0.0, "mlp")])
def test_a_trial_is_handed_over_as_it_was_validated(fresh: Fresh, depth: float, head: str) -> None:
    folder, spec = fresh(), spec_of(epochs=2, freeze_depth=depth, head=head)
    dataset, trial = load_dataset(folder), folder.trial(4)
    rows = dataset.rows("validation")
    run_trial(spec, folder, trial, train_rows=dataset.rows("train"), validation_rows=rows)
    metrics = adopt(RefitSpec(4, spec, {"accuracy": 0.5}, "why"), folder, epochs=2, seconds=3.21, max_pixels=10**6)
    assert json.loads((folder.model / "metrics.json").read_text()) == metrics
    assert (metrics["refitted"], metrics["trial"], metrics["note"], metrics["test_opened"]) == (False, 4, "why", 1)
    assert (metrics["epochs"], metrics["train_seconds"]) == (2, 3.2)
    assert metrics["train_images"] == len(dataset.rows("train"))
    assert metrics["test"]["images"] == len(dataset.rows("test"))
    kept = np.load(trial.validation_logits)
    found, package = predict(folder.model, [Path(each) for each in dataset.table["path"].iloc[rows]])
    assert [each.label for each in found] == [package.labels[each] for each in kept["logits"].argmax(axis=1)]
    probabilities = torch.from_numpy(kept["logits"]).softmax(dim=1).numpy()
    assert np.abs(np.array([each.probabilities for each in found]) - probabilities).max() < 1e-4


def test_a_trial_can_be_handed_over_without_a_look_at_the_test_split(fresh: Fresh) -> None:
    folder, spec = fresh(), spec_of(epochs=1, warmup_epochs=0.1)
    dataset, wanted = load_dataset(folder), RefitSpec(0, spec, {"accuracy": 0.25})
    run_trial(
        spec, folder, folder.trial(0), train_rows=dataset.rows("train"), validation_rows=dataset.rows("validation")
    )
    metrics = adopt(wanted, folder, epochs=1, seconds=1.0, max_pixels=10**6, open_test=False)
    assert "test" not in metrics
    card = (folder.model / "README.md").read_text()
    assert "Validation accuracy 0.2500 in the search" in card
    assert "The test split has not been looked at." in card
    assert run(folder, spec)["test_opened"] == 1
    folder.trial(0).weights.write_bytes(b"torn")
    with pytest.raises(UsageError, match="cannot read weights"):
        adopt(wanted, folder, epochs=1, seconds=1.0, max_pixels=10**6)


@pytest.mark.parametrize("depth", [0.0, 1.0])
def test_a_trial_is_trained_on_with_the_validation_images(fresh: Fresh, depth: float) -> None:
    folder, spec = fresh(), spec_of(epochs=4, freeze_depth=depth)
    dataset, losses = load_dataset(folder), list[float]()
    run_trial(
        spec, folder, folder.trial(0), train_rows=dataset.rows("train"), validation_rows=dataset.rows("validation")
    )
    wanted = RefitSpec(0, spec, {"accuracy": 0.5}, "why")
    metrics = refit(wanted, folder, max_pixels=10**6, on=2, report=lambda facts: losses.append(facts["train_loss"]))
    assert (metrics["refitted"], metrics["trained_on"], metrics["epochs"]) == (False, 2, 6)
    assert metrics["train_images"] == len(dataset.rows("train")) + len(dataset.rows("validation"))
    assert metrics["note"] == "why"
    before = [json.loads(line)["train_loss"] for line in folder.trial(0).metrics.read_text().splitlines()]
    assert len(losses) == 2
    assert losses[0] < (before[0] + before[-1]) / 2  # it began where the trial had ended
    trained = TrialSpec.from_dict(json.loads(folder.refit.spec.read_text()))
    assert (trained.epochs, trained.learning_rate) == (2, 0.25 * spec.learning_rate)
    assert "for 6 epochs" in (folder.model / "README.md").read_text()
    changed = weights(folder)
    assert any(not torch.equal(changed[name], value)
               for name, value in safetensors.torch.load_file(folder.trial(0).weights).items())  # fmt: skip


def test_where_training_on_diverges_the_trial_is_handed_over(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, spec = fresh(), spec_of(epochs=2)
    dataset = load_dataset(folder)
    run_trial(
        spec, folder, folder.trial(0), train_rows=dataset.rows("train"), validation_rows=dataset.rows("validation")
    )
    diverged = Outcome("diverged", 0, 1.0, torch.nn.Identity())
    monkeypatch.setattr(sys.modules[refit.__module__], "run_trial", lambda *arguments, **options: diverged)
    metrics = refit(RefitSpec(0, spec, {}), folder, max_pixels=10**6, on=1)
    assert (metrics["refitted"], metrics["epochs"]) == (False, 2)
    assert not metrics.get("trained_on")
    assert "diverged" in metrics["note"]


@pytest.mark.parametrize(("seconds", "epochs"), [(-1.0, 0), (0.0, 0), (1.9, 0), (2.0, 2), (3.9, 3), (100.0, 4)])
def test_a_trial_is_trained_on_for_half_of_its_epochs_at_least_or_not_at_all(seconds: float, epochs: int) -> None:
    assert epochs_on(spec_of(epochs=4), seconds=seconds, epoch_seconds=1.0) == epochs


def spoil(folder: StudyFolder, spec: TrialSpec, loss: float) -> None:
    """Train trial 0, and note that it ended with this training loss."""
    dataset = load_dataset(folder)
    rows = {"train_rows": dataset.rows("train"), "validation_rows": dataset.rows("validation")}
    run_trial(spec, folder, folder.trial(0), **rows)
    *before, last = folder.trial(0).metrics.read_text().splitlines()
    lines = [*before, json.dumps({**json.loads(last), "train_loss": loss})]
    folder.trial(0).metrics.write_text("\n".join(lines) + "\n")


def test_a_refit_that_went_wrong_is_not_handed_over(fresh: Fresh) -> None:
    folder, spec = fresh(), spec_of()
    spoil(folder, spec, 0.0)
    metrics = run(folder, spec)
    assert (metrics["refitted"], metrics["refit_spoiled"]) == (False, True)
    assert "where the trial had 0.000" in metrics["note"]
    assert metrics["test_opened"] == 1  # by the model that is handed over alone
    trained = safetensors.torch.load_file(folder.trial(0).weights)
    assert all(torch.equal(trained[name], value) for name, value in weights(folder).items() if name in trained)
    folder.trial(0).weights.unlink()
    metrics = run(folder, spec)
    assert metrics["refitted"]
    assert "where the trial had 0.000" in metrics["note"]


def test_a_refit_like_its_trial_is_handed_over(fresh: Fresh) -> None:
    folder, spec = fresh(), spec_of()
    spoil(folder, spec, 10.0)
    metrics = run(folder, spec)
    assert metrics["refitted"]
    assert metrics["note"] == ""
