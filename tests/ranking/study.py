"""A realistic study on disk: SQLite study, per-trial files, manifest, audit, plan and refit, without any training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from sklearn import metrics as sk

from automl.paths import StudyFolder
from automl.ranking.confirmed import choose
from automl.ranking.statistics import wilson
from automl.screening import Latency, Speed

BACKBONES = tuple(f"timm/tf_efficientnet_lite{i}.in1k" for i in range(3))
HOSTILE = ("<script>alert(1)</script>", "=cmd()", "local", "nominal")
DISTRIBUTIONS = {
    "backbone": CategoricalDistribution(BACKBONES),
    "freeze_depth": CategoricalDistribution([0.0, 0.5, 0.75, 1.0]),
    "learning_rate": FloatDistribution(1e-4, 5e-3, log=True),
    "augmentation": CategoricalDistribution(["none", "light", "rand"]),
}
MAX_EPOCHS = 6


@dataclass(frozen=True)
class Synthetic:
    """A study folder with its study; `logits` has every trial's validation logits by number."""

    folder: StudyFolder
    study: optuna.Study
    targets: np.ndarray
    logits: dict[int, np.ndarray]


def sklearn_scores(logits: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    labels, classes = logits.argmax(1), range(logits.shape[1])
    probabilities = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    macro = {"average": "macro", "zero_division": 0}
    return {
        "accuracy": float(sk.accuracy_score(targets, labels)),
        "balanced_accuracy": float(sk.balanced_accuracy_score(targets, labels)),
        "macro_precision": float(sk.precision_score(targets, labels, **macro)),
        "macro_recall": float(sk.recall_score(targets, labels, **macro)),
        "macro_f1": float(sk.f1_score(targets, labels, **macro)),
        "log_loss": float(sk.log_loss(targets, probabilities, labels=list(classes))),
        "auroc": float(sk.roc_auc_score(targets, probabilities, multi_class="ovr")),
        "ece": 0.031,
    }


def write_study(
    root: Path,
    *,
    trials: int = 15,
    metric: str = "accuracy",
    finished: bool = True,
    seed: int = 0,
    groups: bool = False,
    on_disk: bool = True,
    labels: Sequence[str] = HOSTILE,
) -> Synthetic:
    """Write a study of `trials` trials of the classes `labels`, of which later ones are more frequent; pruned,
    truncated, failed and odd trials are among them from 15 on."""
    rng = np.random.default_rng(seed)
    folder = StudyFolder(root)
    root.mkdir(parents=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=folder.name,
        storage=f"sqlite:///{folder.database}" if on_disk else None,
        direction="minimize" if metric == "log_loss" else "maximize",
    )
    attrs: dict[str, Any] = {"metric": metric, "seed": seed, "classes": list(labels), "max_epochs": MAX_EPOCHS}
    attrs |= {"dataset_fingerprint": "5f1c" * 16, "version": "0.1.0", "budget_seconds": 600.0}
    attrs |= {"command": "automl search data/textile --budget 10m --out runs/textile"}
    if finished:
        attrs |= {"stop_reason": "budget", "stage_seconds": {"audit": 4.1, "screening": 38, "search": 421, "refit": 96}}
    for name, value in attrs.items():
        study.set_user_attr(name, value)
    n = 900
    weights = np.arange(1, len(labels) + 1)
    targets = np.sort(rng.choice(len(labels), size=n, p=weights / weights.sum()))
    rng.shuffle(targets)
    rows = np.flatnonzero(np.arange(n) % 3 == 0)
    difficulty = rng.normal(size=(len(rows), len(labels))) * 1.1
    logits: dict[int, np.ndarray] = {}
    for number in range(trials):
        outcome = {4: "pruned", 6: "diverged", 7: "truncated", 9: "out_of_memory", 10: "pruned", 12: "crashed"}.get(
            number, "complete"
        )
        params = {
            "backbone": BACKBONES[number % 3],
            "freeze_depth": [0.5, 0.75, 1.0, 0.0][number // 3 % 4],
            "learning_rate": float(10 ** rng.uniform(-4, -2.4)),
            "augmentation": ["none", "light", "rand"][number % 3],
        }
        skill = {0.0: 2.6, 0.5: 3.8, 0.75: 3.1, 1.0: 1.7}[params["freeze_depth"]] + 0.25 * (number % 3)
        epochs = {"pruned": 2, "truncated": 3, "complete": MAX_EPOCHS, "diverged": 1}.get(outcome, 0)
        curve, last = [], np.zeros((len(rows), len(labels)), np.float32)
        for epoch in range(1, epochs + 1):
            last = difficulty + rng.normal(size=difficulty.shape) * 0.7
            last[np.arange(len(rows)), targets[rows]] += skill * (1 - 0.6 ** (epoch + 0.3 * number % 2))
            last = last.astype(np.float32) * 1.5
            scores = sklearn_scores(last, targets[rows])
            curve.append(
                {"epoch": epoch, "train_loss": 1.4 * 0.6**epoch, "learning_rate": 1e-3, "seconds": 5.2, **scores}
            )
        files = folder.trial(number)
        files.root.mkdir(parents=True)
        if curve:
            files.metrics.write_text("".join(json.dumps(line) + "\n" for line in curve))
            np.savez(files.validation_logits, logits=last, targets=targets[rows], rows=rows, epoch=epochs)
            logits[number] = last
        spec = {
            **params,
            "resolution": 224,
            "weight_decay": 0.05,
            "optimizer": "adamw",
            "epochs": MAX_EPOCHS,
            "seed": number,
        }
        user = {"spec": spec, "reason": outcome, "origin": "default" if number < 3 else "sampler", "epochs": epochs}
        user |= {"max_epochs": MAX_EPOCHS, "train_seconds": 5.2 * epochs, "startup_seconds": 0.7, "host": "box"}
        user |= {"peak_memory_mb": 640.0 + 90 * (number % 3), "latency_ms": 11.5 + 4 * (number % 3), "device": "cpu"}
        user |= {"model_parameters": 3_400_000 + 1_000_000 * (number % 3), "trainable_parameters": 1_200_000}
        user |= {"dtype": "bfloat16", "from_embeddings": params["freeze_depth"] == 1.0}
        messages = {
            "crashed": "RuntimeError: expected <b>3</b> channels | got 4",
            "out_of_memory": "CUDA out of memory: 7.9 GiB of 8.0 GiB in use at batch size 64",
            "diverged": "the training loss became nan in epoch 2",
        }
        if outcome in messages:
            user["message"] = messages[outcome]
        if curve:
            user["metrics"] = sklearn_scores(last, targets[rows])
        state = {"complete": TrialState.COMPLETE, "truncated": TrialState.COMPLETE, "crashed": TrialState.FAIL}
        study.add_trial(
            create_trial(
                state=state.get(outcome, TrialState.PRUNED),
                value=curve[-1][metric] if outcome in {"complete", "truncated"} else None,
                params=params,
                distributions=DISTRIBUTIONS,
                user_attrs=user,
                intermediate_values={line["epoch"]: line[metric] for line in curve} if outcome != "diverged" else {},
            )
        )
    if not finished:
        study.ask(DISTRIBUTIONS)
    _write_surroundings(folder, rng, targets, rows, groups, logits if finished else {}, labels)
    return Synthetic(folder, study, targets[rows], logits)


def speed(milliseconds: float) -> dict[str, Any]:
    """What the screening notes of a model that takes so long for one image."""
    one = Latency(1, milliseconds, milliseconds + 1.25, 10)
    return Speed("CPU, 2 threads", "bfloat16", one, Latency(8, 6 * milliseconds, 6 * milliseconds + 3.5, 5)).to_dict()


def _write_surroundings(
    folder: StudyFolder,
    rng: np.random.Generator,
    targets: np.ndarray,
    rows: np.ndarray,
    groups: bool,
    logits: dict[int, np.ndarray],
    labels: Sequence[str],
) -> None:
    split = np.where(
        np.arange(len(targets)) % 3 == 0, "validation", np.where(rng.random(len(targets)) < 0.7, "train", "test")
    )
    pd.DataFrame(
        {
            "path": [f"/data/{i}.png" for i in range(len(targets))],
            "label": [labels[target] for target in targets],
            "target": targets,
            "split": split,
            "group": [f"g{i // 12}" if groups else "" for i in range(len(targets))],
        }
    ).to_parquet(folder.manifest)
    counts = {
        label: {each: int(((targets == i) & (split == each)).sum()) for each in ("train", "validation", "test")}
        for i, label in enumerate(labels)
    }
    audit = {
        "counts": counts,
        "quarantined": [{"path": "/data/torn.jpg", "label": "local", "reason": "truncated file: <eof>"}],
        "duplicates": [
            {
                "label": labels[0],
                "across_splits": across,
                "copies": [
                    {"path": "/data/1.png", "split": "train", "kept": not across},
                    {"path": "/data/2.png", "split": "test" if across else "train", "kept": True},
                ],
            }
            for across in (True, False)
        ],
        "warnings": ["the class =cmd() has few images"],
    }
    folder.audit.write_text(json.dumps(audit))
    screening = [
        {
            "backbone": name,
            "knn_accuracy": 0.70 + 0.02 * i,
            "linear_accuracy": 0.73 + 0.015 * i,
            "seconds_per_epoch": 4.2 + i,
            "speeds": {"224": speed(11.5 + 4 * i)},
            "included": i < 2,
            "reason": "top by probe" if i < 2 else "too slow: 2 epochs fit",
        }
        for i, name in enumerate(BACKBONES)
    ]
    choices = [
        {"name": "device", "value": "cpu", "reason": "no GPU was found"},
        {"name": "dtype", "value": "bfloat16", "reason": "the CPU has AMX"},
        {"name": "max_concurrent_trials", "value": 2, "reason": "2 cores, 1 per trial"},
    ]
    budget = {"total_seconds": 600, "search_seconds": 430, "refit_seconds": 100}
    folder.plan.write_text(
        json.dumps(
            {"screening": screening, "choices": choices, "budget": budget, "warnings": ["only 600 training images"]}
        )
    )
    if not logits:
        return
    test = targets[split == "test"]
    predicted = np.where(rng.random(len(test)) < 0.93, test, rng.integers(len(labels), size=len(test)))
    matrix = sk.confusion_matrix(test, predicted, labels=range(len(labels)))
    p, r, f, s = sk.precision_recall_fscore_support(test, predicted, labels=range(len(labels)), zero_division=0)
    per_class = [
        {"label": labels[i], "precision": p[i], "recall": r[i], "f1": f[i], "support": int(s[i])}
        for i in range(len(labels))
    ]
    best = max(
        (n for n in logits if n not in {4, 10, 6}), key=lambda n: float((logits[n].argmax(1) == targets[rows]).mean())
    )
    scores = {
        "accuracy": float((test == predicted).mean()),
        "balanced_accuracy": float(r.mean()),
        "macro_precision": float(p.mean()),
    }
    scores |= {"macro_recall": float(r.mean()), "macro_f1": float(f.mean()), "log_loss": 0.22, "ece": 0.02}
    extra = {
        "images": len(test),
        "ci95": list(wilson(int((test == predicted).sum()), len(test))),
        "per_class": per_class,
        "confusion": matrix.tolist(),
    }
    folder.model.mkdir()
    content = {
        "trial": best,
        "epochs": 6,
        "train_seconds": 80.0,
        "validation": sklearn_scores(logits[best], targets[rows]),
        "test": {**scores, **extra},
    }
    (folder.model / "metrics.json").write_text(json.dumps(content))


def train_again(made: Synthetic, trials: Sequence[int], runs: int = 2) -> None:
    """Let `trials` have been trained again, on other images in each run, and the first of them be chosen."""
    rng, done = np.random.default_rng(7), []
    table = pd.read_parquet(made.folder.manifest, columns=["split", "target"])
    rows, every = np.flatnonzero(table["split"] != "test"), table["target"].to_numpy()
    for run in range(1, runs + 1):
        drawn = np.sort(rng.choice(rows, 250, replace=False))
        for place, number in enumerate(trials):
            logits = rng.normal(size=(len(drawn), every.max() + 1)).astype(np.float32)
            logits[np.arange(len(drawn)), every[drawn]] += 3.5 - 0.2 * place
            path = made.folder.confirmation(number, run).validation_logits
            path.parent.mkdir(parents=True)
            np.savez(path, logits=logits, targets=every[drawn], rows=drawn, epoch=MAX_EPOCHS)
            score = float((logits.argmax(1) == every[drawn]).mean())
            done.append({"trial": number, "run": run, "score": score, "seconds": 31.0,
                         "train_images": len(rows) - 250, "validation_images": 250})  # fmt: skip
    kept = {"trials": list(trials), "runs": runs, "done": done, "failed": {}}
    made.study.set_user_attr("confirmation", kept)
    found = choose(made.folder, made.study)
    assert found is not None
    made.study.set_user_attr("confirmation", kept | {"winner": found.winner, "why": found.why})
