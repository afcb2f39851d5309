from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.data.split import assign_splits, redraw
from automl.errors import DataError, UsageError


def frame(counts: dict[str, int], *, group: list[str] | None = None, split: str = "") -> pd.DataFrame:
    labels = [label for label, count in counts.items() for _ in range(count)]
    pixels = [f"{number:05d}" for number in range(len(labels))]
    groups = group or [""] * len(labels)
    return pd.DataFrame({"label": labels, "split": split, "group": groups, "pixels": pixels}).astype("str")


def assign(
    rows: pd.DataFrame, *, seed: int = 0, validation: float = 0.15, test: float = 0.15
) -> tuple[pd.Series, dict[str, str], list[str]]:
    labels = sorted(set(rows["label"]))
    return assign_splits(rows, labels, seed=seed, validation_fraction=validation, test_fraction=test)


def test_every_class_has_the_fractions_asked_for() -> None:
    rows = frame({"a": 1000, "b": 200, "c": 40})
    split, origins, notes = assign(rows)
    counts = pd.crosstab(rows["label"], split)
    assert counts["test"].to_dict() == {"a": 150, "b": 30, "c": 6}
    assert counts["validation"].to_dict() == {"a": 150, "b": 30, "c": 6}
    assert origins == {"train": "drawn", "validation": "drawn", "test": "drawn"}
    assert notes == []


def test_fractions_hold_over_many_small_classes() -> None:
    rows = frame({f"{number:03d}": 10 for number in range(100)})
    split, _, _ = assign(rows)
    assert split.value_counts().to_dict() == {"train": 700, "validation": 150, "test": 150}


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    rows = frame({"a": 50, "b": 50})
    assert assign(rows, seed=1)[0].equals(assign(rows, seed=1)[0])
    assert not assign(rows, seed=1)[0].equals(assign(rows, seed=2)[0])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(3, 30), min_size=2, max_size=6),
    st.floats(0.01, 0.45),
    st.floats(0.01, 0.45),
    st.integers(0, 2**31),
)
def test_every_class_is_on_every_side(sizes: list[int], validation: float, test: float, seed: int) -> None:
    rows = frame({f"class {number}": size for number, size in enumerate(sizes)})
    split, _, _ = assign(rows, seed=seed, validation=validation, test=test)
    assert (pd.crosstab(rows["label"], split) > 0).all(axis=None)
    assert split.nunique() == 3


def test_copies_are_never_torn_apart() -> None:
    rows = frame({"a": 60, "b": 60})
    rows["pixels"] = [f"{number // 3}" for number in range(120)]
    split, _, _ = assign(rows)
    assert (split.groupby(rows["pixels"]).nunique() == 1).all()
    assert split.nunique() == 3


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_torn_apart_and_classes_stay_balanced(seed: int) -> None:
    counts = {"a": 240, "b": 120}
    rows = frame(counts, group=[f"patient {(number * 7) % 40}" for number in range(360)])
    split, _, _ = assign(rows, seed=seed, validation=0.2, test=0.2)
    assert (split.groupby(rows["group"]).nunique() == 1).all()
    shares = pd.crosstab(rows["label"], split, normalize="index")
    assert ((shares[["validation", "test"]] - 0.2).abs() <= 0.08).all(axis=None)


def test_groups_linked_by_a_copy_stay_together() -> None:
    rows = frame({"a": 30, "b": 30}, group=[f"{number // 3}" for number in range(60)])
    rows.loc[3, "pixels"] = rows.loc[0, "pixels"]  # groups 0 and 1 share a picture
    for seed in range(5):
        split, _, _ = assign(rows, seed=seed)
        assert split[:6].nunique() == 1


def test_a_class_with_just_enough_groups_is_split() -> None:
    group = [f"{number % 30}" for number in range(60)] + ["x", "x", "y", "z"]
    rows = frame({"a": 60, "b": 4}, group=group)
    split, _, _ = assign(rows)
    assert set(split[rows["label"] == "b"]) == {"train", "validation", "test"}


def test_given_splits_are_kept() -> None:
    rows = frame({"a": 10, "b": 10})
    rows["split"] = ["train", "train", "train", "validation", "test"] * 4
    split, origins, notes = assign(rows)
    assert split.equals(rows["split"])
    assert origins == {"train": "given", "validation": "given", "test": "given"}
    assert notes == []


@pytest.mark.parametrize(("have", "missing"), [("test", "validation"), ("validation", "test")])
def test_a_missing_split_is_drawn_from_train_with_a_note(have: str, missing: str) -> None:
    rows = frame({"a": 100, "b": 100})
    rows["split"] = (["train"] * 4 + [have]) * 40
    split, origins, notes = assign(rows)
    assert split[rows["split"] == have].eq(have).all()
    assert (split == missing).sum() == 24
    assert (origins[have], origins[missing]) == ("given", "drawn")
    assert notes == [f"no {missing} split was given: 24 train images were set aside for it"]


def test_no_test_split_where_none_is_wanted() -> None:
    split, origins, _ = assign(frame({"a": 10, "b": 2}), test=0.0)
    assert set(split) == {"train", "validation"}
    assert "test" not in origins


def test_a_given_validation_split_of_one_class_is_refused() -> None:
    rows = frame({"a": 10, "b": 10})
    rows["split"] = ["train", "train", "train", "validation", "test"] * 2 + ["train"] * 9 + ["test"]
    with pytest.raises(DataError, match=r'images of one class only \("a"\): .* leave the validation split out'):
        assign(rows)


def test_a_class_that_only_train_has_is_noted() -> None:
    rows = frame({"a": 10, "b": 10, "c": 5})
    rows["split"] = ["train", "train", "train", "validation", "test"] * 4 + ["train"] * 5
    _, _, notes = assign(rows)
    assert notes == [f'the given {name} split has no image of "c"' for name in ("validation", "test")]


def test_all_classes_too_small_are_named() -> None:
    with pytest.raises(
        DataError, match=r'"b" has 2, "c" has 1; each class needs at least 3 \(train, test, validation\)'
    ):
        assign(frame({"a": 10, "b": 2, "c": 1}))


def test_a_class_of_one_repeated_picture_is_too_small() -> None:
    rows = frame({"a": 10, "b": 10})
    rows.loc[rows["label"] == "b", "pixels"] = "same"
    with pytest.raises(DataError, match='distinct usable images: "b" has 1'):
        assign(rows)


def test_a_class_without_a_usable_image_is_named() -> None:
    with pytest.raises(DataError, match='"gone" has 0'):
        assign_splits(frame({"a": 9, "b": 9}), ["a", "b", "gone"], seed=0, validation_fraction=0.1, test_fraction=0.1)


def test_a_class_that_given_train_lacks_is_named() -> None:
    rows = frame({"a": 10, "b": 10})
    rows["split"] = ["train", "validation", "test"] * 3 + ["train"] + ["validation", "test"] * 5
    with pytest.raises(DataError, match='in the given train split: "b" has 0'):
        assign(rows)


def test_groups_that_cannot_be_divided_are_an_error() -> None:
    rows = frame({"a": 6, "b": 6}, group=["1", "1", "2", "2", "3", "3"] * 2)
    assert assign(rows, validation=0.3, test=0.3)[0].nunique() == 3
    rows["group"] = ["1", "1", "1", "1", "2", "2"] * 2
    with pytest.raises(DataError, match='independent groups of images: "a" has 2, "b" has 2'):
        assign(rows)


def test_one_class_and_no_train_are_errors() -> None:
    with pytest.raises(DataError, match=r'only one class \("a"\)'):
        assign(frame({"a": 10}))
    with pytest.raises(DataError, match="given splits are test: expected train"):
        assign(frame({"a": 10, "b": 10}, split="test"))


@pytest.mark.parametrize(("validation", "test"), [(0.0, 0.1), (0.5, 0.5), (-0.1, 0.1), (0.1, 1.0)])
def test_fractions_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    with pytest.raises(UsageError, match="do not fit"):
        assign(frame({"a": 10, "b": 10}), validation=validation, test=test)


def with_validation(rows: pd.DataFrame, every: int) -> pd.DataFrame:
    validation = pd.Series(range(len(rows))) % every == 0
    return rows.assign(split=validation.map({True: "validation", False: "train"}))


def test_a_split_drawn_again_has_the_same_size_and_other_images() -> None:
    rows = with_validation(frame({"a": 100, "b": 40}), 5)
    drawn = [redraw(rows, seed=seed) for seed in (1, 2, 1)]
    assert [int(each.sum()) for each in drawn] == [28, 28, 28]
    assert rows["label"][drawn[0]].value_counts().to_dict() == {"a": 20, "b": 8}
    assert (drawn[0] == drawn[2]).all()
    assert (drawn[0] & drawn[1]).sum() < 20


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_split_drawn_again_keeps_groups_and_copies_together(seed: int) -> None:
    rows = frame({"a": 60, "b": 60}, group=[f"g{number // 6}" for number in range(120)])
    rows.loc[[3, 40], "pixels"] = "same"
    drawn = redraw(with_validation(rows, 5), seed=seed)
    assert (pd.Series(drawn).groupby(rows["group"]).nunique() == 1).all()
    assert drawn[3] == drawn[40]


def test_a_split_that_cannot_be_drawn_again_says_why() -> None:
    rows = with_validation(frame({"a": 10, "b": 10}, group=["one"] * 10 + [f"g{n}" for n in range(10)]), 5)
    with pytest.raises(DataError, match=r'"a" has 1'):
        redraw(rows, seed=0)
