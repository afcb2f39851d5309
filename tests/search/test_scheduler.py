from __future__ import annotations

import pytest

from automl.search.scheduler import Rungs, group_of

GROUP = ("net", False)


def rungs(*, grace: int = 1, reduction: int = 3, epochs: int = 9, maximize: bool = True) -> Rungs:
    return Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=maximize)


@pytest.mark.parametrize(
    ("grace", "reduction", "epochs", "expected"),
    [(1, 3, 9, [1, 3]), (1, 3, 10, [1, 3, 9]), (2, 2, 16, [2, 4, 8]), (4, 3, 4, []), (5, 2, 4, []), (1, 2, 2, [1])],
)
def test_rungs_are_powers_above_the_grace_and_below_the_last_epoch(
    grace: int, reduction: int, epochs: int, expected: list[int]
) -> None:
    assert rungs(grace=grace, reduction=reduction, epochs=epochs).epochs == expected


def test_the_first_of_a_group_goes_on_whatever_its_value() -> None:
    table = rungs()
    assert table.goes_on(0, GROUP, 1, 0.01)
    assert table.goes_on(1, ("net", True), 1, 0.0)
    assert table.goes_on(2, ("other", False), 1, 0.0)


@pytest.mark.parametrize(("maximize", "sign"), [(True, 1), (False, -1)])
def test_only_the_top_third_of_a_group_passes_a_rung(maximize: bool, sign: int) -> None:
    table = rungs(maximize=maximize)
    for number, value in enumerate([0.1, 0.2, 0.3]):
        assert table.goes_on(number, GROUP, 1, sign * value)
    assert not table.goes_on(3, GROUP, 1, sign * 0.2)
    assert not table.goes_on(4, GROUP, 1, sign * 0.15)
    assert table.goes_on(5, GROUP, 1, sign * 0.4)


def test_between_rungs_everything_goes_on() -> None:
    table = rungs()
    for number in range(3):
        table.goes_on(number, GROUP, 1, 0.9)
    assert not table.goes_on(3, GROUP, 1, 0.0)
    assert table.goes_on(4, GROUP, 2, 0.0)
    assert table.goes_on(4, GROUP, 8, 0.0)


def test_a_slow_warmer_is_compared_with_its_own_kind() -> None:
    """The textile curves of DESIGN.md: 0.33 after an epoch with everything trainable, 0.73 at once when frozen."""
    table = rungs()
    frozen, trainable = group_of("net", 1.0), group_of("net", 0.0)
    for number in range(5):
        table.goes_on(number, frozen, 1, 0.73)
    assert table.goes_on(5, trainable, 1, 0.33)
    assert not table.goes_on(6, frozen, 1, 0.33)


def test_groups_are_backbones_and_how_much_of_them_trains() -> None:
    assert group_of("net", 0.0) == group_of("net", 0.5)
    assert len({group_of("net", depth) for depth in (0.0, 0.75, 1.0)}) == 3
    assert group_of("net", 0.0) != group_of("other", 0.0)


def test_a_trial_is_not_compared_with_itself() -> None:
    table = rungs()
    assert table.goes_on(0, GROUP, 1, 0.5)
    assert table.goes_on(0, GROUP, 1, 0.1)
