from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.proxies import compare
from benchmarks.proxies.compare import IMAGES, PROXIES, Recorded, bits, load, sampled, tau
from benchmarks.proxies.screening import to_hex

BACKBONES = 4


def recorded(order: list[int]) -> Recorded:
    """Backbones that fine-tune the better the later, while every probe ranks them in `order`."""
    rows = pd.DataFrame(
        {
            "backbone": list("abcd"),
            "weights": ["pretrained", "pretrained", "none", "none"],
            "published_top1": [0.7, 0.8, 0.9, 0.9],
            "look_log_loss": -np.array(order, float),
            "look_half_log_loss": -np.array(order, float),
        }
    )
    right = {
        key: np.array([np.arange(100) < 20 * (place + 1) for place in order])
        for key in ("knn", "linear", "knn_half", "linear_half", "look", "look_half")
    }
    good = np.array([np.arange(IMAGES) < 100 * (place + 1) for place in range(BACKBONES)], float)
    return Recorded(rows, right, np.array([good, np.zeros_like(good)]))


def taus(order: list[int]) -> dict[str, float]:
    everything = sampled(recorded(order), np.arange(BACKBONES), None)
    return {name: tau(everything, proxy) for name, proxy in PROXIES.items()}


def test_bits_survive_their_digits() -> None:
    right = np.random.default_rng(0).random(45) < 0.5
    np.testing.assert_array_equal(bits(to_hex(right), 45), right)


def test_the_same_order_is_one_and_the_reverse_minus_one() -> None:
    same, reverse = taus([0, 1, 2, 3]), taus([3, 2, 1, 0])
    alone = [name for name in PROXIES if name != "prior" and "union" not in name]
    assert all(same[name] == 1 and reverse[name] == -1 for name in alone)
    # by hand: of 6 pairs one ties (both random), one agrees and four do not: (1 - 4) / sqrt(5 * 6)
    assert same["prior"] == reverse["prior"] == pytest.approx(-3 / 30**0.5)


def test_the_better_default_counts() -> None:
    known = recorded([0, 1, 2, 3])
    everything = sampled(known, np.arange(BACKBONES), None)
    np.testing.assert_allclose(everything.fine_tuned, known.fine_tuned[0].mean(axis=1))


def test_a_sample_draws_backbones_and_images() -> None:
    known, rng = recorded([0, 1, 2, 3]), np.random.default_rng(0)
    samples = [sampled(known, np.arange(BACKBONES), rng) for _ in range(50)]
    assert len({tuple(each.rows["backbone"]) for each in samples}) > 20
    of_last = [float(each.fine_tuned[i]) for each in samples for i in np.flatnonzero(each.rows["backbone"] == "d")]
    assert len(set(of_last)) > 20
    assert np.mean(of_last) == pytest.approx(400 / IMAGES, abs=0.02)


def test_two_proxies_that_agree_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SAMPLES", 20)
    table = compare.compare({"x": recorded([1, 0, 2, 3]), "y": recorded([0, 1, 2, 3])}, "all").set_index(
        ["set", "proxy"]
    )
    rows = table.loc["x"]
    assert rows.loc["linear probe", "tau"] == pytest.approx(2 / 3)
    assert rows.loc["linear probe", "low"] <= 2 / 3 <= rows.loc["linear probe", "high"]
    assert rows.loc["look, log loss − linear probe", "tau"] == 0
    assert table.loc[("mean of sets", "linear probe"), "tau"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_what_was_recorded_is_read(name: str) -> None:
    """The bits say the same as the accuracies that stand beside them."""
    found = load(name)
    assert found is not None
    for key in ("knn", "linear", "look"):
        np.testing.assert_allclose(found.right[key].mean(axis=1), found.rows[f"{key}_accuracy"], atol=1e-4)
    assert found.fine_tuned.shape == (2, len(found.rows), IMAGES)
    assert compare.seconds({name: found})["screening / epoch"].between(0, 1).all()
