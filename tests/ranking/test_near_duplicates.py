from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from automl.ranking.embedding_map import Embedding
from automl.ranking.near_duplicates import NearDuplicates, close_pairs, find_near_duplicates
from tests.ranking.html import Page

N = 120


def vectors(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, 64)).astype(np.float32)


def found_in(features: np.ndarray, **changes: list[str]) -> NearDuplicates:
    n = len(features)
    every = {
        "paths": [f"/images/{row}.png" for row in range(n)],
        "splits": ["train"] * n,
        "labels": ["a"] * n,
    }
    found = find_near_duplicates(
        Embedding("backbone", 224, features, np.arange(n)),
        **{**every, **changes},
        exact=[["/images/30.png", "/images/31.png"]],
    )
    assert found is not None
    return found


def test_copies_stand_out_and_different_pictures_do_not() -> None:
    features = vectors()
    assert close_pairs(features) == []
    noise = 0.05 * np.random.default_rng(1).normal(size=(3, 64))
    features[[5, 6, 7]] = 2 * features[4] + noise  # three copies of one picture do not hide each other
    assert [(i, j) for i, j, _, _ in close_pairs(features)] == [(4, 5), (4, 6), (4, 7), (5, 6), (5, 7), (6, 7)]
    found = found_in(features)
    assert (found.images, found.found) == (N, 6)
    assert all(each.similarity > 0.99 and each.ratio < 0.5 for each in found.listed)


def test_alike_is_relative_to_how_alike_the_others_are() -> None:
    crowded = 1 + 0.01 * vectors()
    assert found_in(crowded).found == 0
    crowded[9] = crowded[8] + 0.0001 * vectors(2)[0]
    assert [each.rows for each in found_in(crowded).listed] == [(8, 9)]


def test_what_the_audit_knows_is_not_told_again() -> None:
    features = vectors()
    features[31], features[51] = features[30], features[50]
    assert [each.rows for each in found_in(features).listed] == [(50, 51)]


def test_pairs_across_splits_or_labels_come_first() -> None:
    features = vectors()
    for row in (10, 20, 30, 40):
        features[row + 2] = features[row] + (0.001 * row) * vectors(3)[0]
    splits, labels = ["train"] * N, ["a"] * N
    splits[22], labels[42], splits[42] = "validation", "b", "validation"
    found = found_in(features, splits=splits, labels=labels)
    assert [each.rows for each in found.listed] == [(40, 42), (20, 22), (10, 12), (30, 32)]
    assert (found.across, found.torn) == (2, 1)


def test_too_few_images_are_not_judged() -> None:
    few = Embedding("backbone", 224, vectors()[:20], np.arange(20))
    texts = [str(row) for row in range(20)]
    assert find_near_duplicates(few, texts, texts, texts, exact=[]) is None


def test_the_page_shows_them(written: Path, page: Page) -> None:
    content = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))["near_duplicates"]
    assert content["found"] == 1
    shown = {path: float(value) for value, path, _ in page.numbers}
    assert shown["/near_duplicates/found"] == 1
    assert shown["/near_duplicates/listed/0/similarity"] == content["listed"][0]["similarity"]
    assert page.sentences["/near_duplicates/note"] == content["note"]
