from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl.backbones import build, find, head_of
from automl.data import open_cache
from automl.errors import DataError
from automl.paths import StudyFolder
from automl.search import screen, trial
from automl.search.screen import sampled, screen_backbone
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, run_trial, variant_of
from automl.training import Outcome, choose_precision, measure
from tests.images import WHITE
from tests.small import RESNET, VIT, random_weights, spec_of, with_pixels

HEAD: dict[str, Any] = {"freeze_depth": 1.0}
KEYS = {"accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss", "auroc", "ece"}


@pytest.fixture
def study(study_data: StudyFolder, tmp_path: Path) -> StudyFolder:
    shutil.copytree(study_data.root, tmp_path / "study")
    return with_pixels(StudyFolder(tmp_path / "study"), RESNET)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """The rows of every embedding that is computed and not read from the cache."""
    computed: list[set[int]] = []
    embed = trial.embed

    def note(model: Any, array: Any, rows: Any, **options: Any) -> Any:
        computed.append(set(rows.tolist()))
        return embed(model, array, rows, **options)

    monkeypatch.setattr(trial, "embed", note)
    return computed


def run(study: StudyFolder, spec: TrialSpec, number: int = 0, **options: Any) -> tuple[Outcome, list[dict[str, Any]]]:
    dataset, seen = load_dataset(study), []
    rows = {"train_rows": dataset.rows("train"), "validation_rows": dataset.rows("validation")}
    outcome = run_trial(spec, study, study.trial(number), **{**rows, "report": seen.append, **options})
    return outcome, seen


def weights_of(outcome: Outcome) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in outcome.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def repaint(study: StudyFolder, *splits: str) -> None:
    """Overwrite the pixels of whole splits in the cache."""
    dataset = load_dataset(study)
    (path,) = study.pixels.glob("*.npy")
    pixels = np.load(path, mmap_mode="r+")
    for split in splits:
        pixels[dataset.rows(split)] = 77
    pixels.flush()


@pytest.mark.parametrize("head", [False, True])
def test_a_trial_leaves_its_files_and_reports_every_epoch(study: StudyFolder, head: bool) -> None:
    spec = spec_of(**(HEAD if head else {}))
    outcome, seen = run(study, spec)
    assert (outcome.reason, outcome.epochs) == ("complete", 2)
    files = study.trial(0)
    assert TrialSpec.from_dict(json.loads(files.spec.read_text())) == spec
    lines = [json.loads(line) for line in files.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2] == [facts["epoch"] for facts in seen]
    assert all(line.keys() >= KEYS for line in lines)
    for line, facts in zip(lines, seen, strict=True):
        assert facts["metrics"] == {name: line[name] for name in KEYS}
        assert (facts["from_embeddings"], facts["device"]) == (head, "cpu")
        assert facts["peak_memory_mb"] > 0
    parameters = sum(each.numel() for each in outcome.model.parameters())
    head_parameters = sum(each.numel() for each in head_of(outcome.model).parameters())
    assert seen[0]["model_parameters"] == parameters
    assert seen[0]["trainable_parameters"] == (head_parameters if head else parameters)
    json.dumps(seen)


def test_a_trial_computes_in_the_precision_of_its_specification(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    own, tuned = choose_precision(torch.device("cpu")).name, trial.fine_tune
    computed: list[str] = []

    def note(*arguments: Any, training_precision: Any, **options: Any) -> Any:
        computed.append(training_precision.name)
        return tuned(*arguments, training_precision=training_precision, **options)

    monkeypatch.setattr(trial, "fine_tune", note)
    for number, (changes, training) in enumerate(
        [({}, own), ({"dtype": "float32"}, "float32"), ({"dtype": "float32", "freeze_depth": 1.0}, own)]
    ):
        _, seen = run(study, spec_of(**changes), number)
        assert (seen[0]["dtype"], seen[0]["training_dtype"]) == (own, training)
        assert computed[-1] == training
    assert own == "bfloat16"


def assert_logits_are_the_models(study: StudyFolder, number: int, outcome: Outcome) -> None:
    dataset, backbone = load_dataset(study), find(RESNET)
    kept = np.load(study.trial(number).validation_logits)
    np.testing.assert_array_equal(kept["rows"], dataset.rows("validation"))
    np.testing.assert_array_equal(kept["targets"], dataset.table["target"].to_numpy()[kept["rows"]])
    pixels = open_cache(dataset.table, study.pixels, variant_of(backbone, 32, "squash"), background=WHITE)
    images = torch.from_numpy(pixels[kept["rows"]].astype(np.float32) / 255).permute(0, 3, 1, 2)
    inputs = (images - torch.tensor(backbone.mean).view(3, 1, 1)) / torch.tensor(backbone.std).view(3, 1, 1)
    with torch.no_grad():
        logits = outcome.model.eval()(inputs)
    np.testing.assert_allclose(kept["logits"], logits.numpy(), atol=0.05)  # bfloat16 where the CPU has it


def test_the_logits_kept_are_those_of_the_model_and_of_the_metrics(study: StudyFolder) -> None:
    outcome, seen = run(study, spec_of())
    assert_logits_are_the_models(study, 0, outcome)
    kept = np.load(study.trial(0).validation_logits)
    assert kept["epoch"] == 2
    assert measure(kept["logits"], kept["targets"]) == seen[-1]["metrics"]


def test_the_same_spec_gives_the_same_trial(study: StudyFolder) -> None:
    spec = spec_of(augmentation="light", number=3)
    (first, one), (second, two) = run(study, spec, 0), run(study, spec, 1)
    assert same(weights_of(first), weights_of(second))
    assert [facts["metrics"] for facts in one] == [facts["metrics"] for facts in two]
    other, _ = run(study, spec_of(augmentation="light", number=4), 2)
    assert not same(weights_of(first), weights_of(other))


def test_a_killed_trial_goes_on_from_its_checkpoint_as_if_nothing_had_been(study: StudyFolder) -> None:
    spec = spec_of(epochs=3)
    whole, expected = run(study, spec, 0)

    def kill(facts: dict[str, Any]) -> None:
        if facts["epoch"] == 2:  # when its metrics and its checkpoint are written
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(study, spec, 1, report=kill)
    assert study.trial(1).checkpoint.exists()
    resumed, seen = run(study, spec, 1)
    assert [facts["epoch"] for facts in seen] == [3]
    assert same(weights_of(whole), weights_of(resumed))
    assert [facts["metrics"] for facts in seen] == [facts["metrics"] for facts in expected[2:]]
    lines = [json.loads(line)["epoch"] for line in study.trial(1).metrics.read_text().splitlines()]
    assert lines == [1, 2, 3]


def test_metrics_of_a_trial_that_starts_anew_are_not_mixed_with_the_old(study: StudyFolder) -> None:
    run(study, spec_of(), 0)
    study.trial(0).checkpoint.unlink()
    run(study, spec_of(epochs=1, warmup_epochs=0.1), 0)
    assert len(study.trial(0).metrics.read_text().splitlines()) == 1


def test_a_time_limit_counts_from_the_start_of_the_trial(study: StudyFolder) -> None:
    times = iter(range(0, 10**6, 10))
    outcome, seen = run(study, spec_of(epochs=4), time_limit=25.0, clock=lambda: float(next(times)))
    assert outcome.reason == "truncated"
    assert len(seen) < 4


def test_the_embedding_is_computed_once_for_all_that_share_it(
    study: StudyFolder, tmp_path: Path, embedded: list[set[int]]
) -> None:
    weights = str(random_weights(tmp_path / "resnet.safetensors"))
    screened = screen_backbone(str(study.root), spec_of(weights=weights, **HEAD), [32])
    run(study, spec_of(weights=weights, **HEAD), 0)
    run(study, spec_of(weights=weights, number=1, learning_rate=0.1, **HEAD), 1)
    dataset = load_dataset(study)
    assert embedded == [{*dataset.rows("train").tolist(), *dataset.rows("validation").tolist()}]
    assert screened.backbone == RESNET
    other = str(random_weights(tmp_path / "other.safetensors", seed=6))
    run(study, spec_of(weights=other, **HEAD), 2)
    assert len(embedded) == 2


def test_of_many_images_a_sample_is_screened_and_trials_still_train_on_all(
    study: StudyFolder, tmp_path: Path, embedded: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset(study)
    every = {*dataset.rows("train").tolist(), *dataset.rows("validation").tolist()}
    monkeypatch.setattr(screen, "MAX_IMAGES", 24)
    spec = spec_of(weights=str(random_weights(tmp_path / "resnet.safetensors")), **HEAD)
    screened = screen_backbone(str(study.root), spec, [32])
    (told,) = (each for each in screened.choices if each["name"] == "images screened")
    assert (told["value"], f"{len(every)} to train and validate on" in told["reason"]) == (24, True)
    run(study, spec, 0)
    run(study, spec_of(weights=spec.weights, number=1, learning_rate=0.1, **HEAD), 1)
    assert [len(each) for each in embedded] == [24, len(every)]
    assert embedded[0] < every == embedded[1]


def test_a_sample_has_the_shares_of_the_classes_and_some_of_each() -> None:
    targets = np.repeat([0, 1, 2, 3], [20_000, 8_000, 40, 3])
    rows = np.arange(len(targets), dtype=np.int64)[10:]
    chosen = sampled(rows, targets)
    assert np.bincount(targets[chosen]).tolist() == [3565, 1427, 7, 3]
    assert (np.diff(chosen) > 0).all()
    assert set(chosen.tolist()) <= set(rows.tolist())
    assert (sampled(rows, targets) == chosen).all()
    assert (sampled(rows[:5000], targets) == rows[:5000]).all()


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_trial_on_embeddings_hands_over_the_whole_network(study: StudyFolder, head: str) -> None:
    """What the head said of embeddings is what the network says of pixels."""
    outcome, seen = run(study, spec_of(head=head, **HEAD))
    assert seen[-1]["from_embeddings"]
    assert_logits_are_the_models(study, 0, outcome)


def test_nothing_before_the_refit_depends_on_the_test_split(study: StudyFolder, tmp_path: Path) -> None:
    weights = str(random_weights(tmp_path / "resnet.safetensors"))
    specs = [spec_of(weights=weights), spec_of(weights=weights, **HEAD)]

    def everything() -> list[Any]:
        for kept in (study.embeddings, study.root / "trials"):
            shutil.rmtree(kept, ignore_errors=True)
        screened = screen_backbone(str(study.root), specs[1], [32])
        trials = [run(study, spec, number) for number, spec in enumerate(specs)]
        found = [(weights_of(outcome), [facts["metrics"] for facts in seen]) for outcome, seen in trials]
        return [(screened.knn_accuracy, screened.linear_accuracy), found]

    probes, (full, head) = everything()
    repaint(study, "test")
    probes_after, (full_after, head_after) = everything()
    assert probes == probes_after
    for before, after in ((full, full_after), (head, head_after)):
        assert same(before[0], after[0])
        assert before[1] == after[1]
    repaint(study, "train", "validation")
    probes_after, (full_after, head_after) = everything()
    assert probes != probes_after
    assert not same(full[0], full_after[0])
    assert not same(head[0], head_after[0])


@pytest.mark.parametrize("spec", [spec_of(), spec_of(**HEAD)], ids=["pixels", "embeddings"])
def test_validation_images_are_not_trained_on(study: StudyFolder, spec: TrialSpec) -> None:
    before, _ = run(study, spec, 0)
    repaint(study, "validation")
    after, _ = run(study, spec, 1)
    assert same(weights_of(before), weights_of(after))


def test_a_frozen_part_does_not_move(study: StudyFolder, tmp_path: Path) -> None:
    path = random_weights(tmp_path / "resnet.safetensors")
    start = build(find(RESNET), 3, resolution=32, weights=path).state_dict()
    for number, depth in enumerate([0.0, 0.5, 1.0]):
        outcome, _ = run(study, spec_of(weights=str(path), freeze_depth=depth, augmentation="light"), number)
        moved = {name for name, value in weights_of(outcome).items() if not torch.equal(value, start[name])}
        assert "fc.weight" in moved
        assert ("conv1.0.weight" in moved or "conv1.weight" in moved) == (depth == 0.0)
        if depth == 1.0:
            assert all(name.startswith("fc.") for name in moved)


def test_a_screening_compares_the_precisions_of_a_cpu_with_amx(
    study: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    cost = screen_backbone(str(study.root), spec_of(**HEAD), [32]).cost
    assert cost.dtype_seconds.keys() == {"bfloat16", "float32"}
    slower = cost.dtype_seconds["float32"] > 0.9 * cost.dtype_seconds["bfloat16"]
    assert cost.training_dtype == ("auto" if slower else "float32")


def test_a_screening_measures_what_it_says(study: StudyFolder) -> None:
    found = screen_backbone(str(study.root), spec_of(**HEAD), [32, 64])
    assert (found.backbone, found.resolution) == (RESNET, 32)
    assert 0 <= found.knn_accuracy <= 1
    assert found.linear_accuracy > 0.8  # three colours are separable even in random features
    for accuracy, interval in ((found.knn_accuracy, found.knn_ci95), (found.linear_accuracy, found.linear_ci95)):
        assert interval is not None
        assert interval[0] <= accuracy <= interval[1]
    assert (found.pretrained, found.prior) == (False, None)  # a published figure is of weights that this one has not
    cost = found.cost
    assert min(cost.forward_seconds, cost.latency_ms, cost.peak_memory_mb, *cost.step_seconds.values()) > 0
    outcome, _ = run(study, spec_of())
    assert cost.parameters == sum(each.numel() for each in outcome.model.parameters())
    assert found.embed_seconds > 0
    assert found.speeds.keys() == {32, 64}
    for speed in found.speeds.values():
        assert (speed.one.images, speed.batch.images) == (1, 8)
        assert 0 < speed.one.median_ms <= speed.one.p95_ms
    assert cost.latency_ms == found.speeds[32].one.median_ms
    assert {choice["name"] for choice in found.choices} >= {"device", "precision"}
    assert all(choice["value"] and choice["reason"] for choice in found.choices)


def test_a_backbone_without_pixels_is_an_error_that_says_so(study: StudyFolder) -> None:
    with pytest.raises(DataError, match="no pixel cache"):
        run(study, spec_of(VIT))
