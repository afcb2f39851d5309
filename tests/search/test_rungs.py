from __future__ import annotations

import pytest

from automl.search.rungs import IN_LINE, Rungs, groups_of

NET, OTHER = ("trainable", "net"), ("trainable", "other")


def rungs(*, grace: int = 1, reduction: int = 3, epochs: int = 9, maximize: bool = True) -> Rungs:
    return Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=maximize)


@pytest.mark.parametrize(
    ("grace", "reduction", "epochs", "expected"),
    [(1, 3, 6, [1, 3]), (1, 3, 14, [1, 3, 9]), (2, 2, 16, [2, 4, 8]), (4, 3, 4, []), (5, 2, 4, []), (1, 2, 2, [1])],
)
def test_rungs_are_powers_above_the_grace_and_within_two_thirds_of_the_epochs(
    grace: int, reduction: int, epochs: int, expected: list[int]
) -> None:
    assert rungs(grace=grace, reduction=reduction, epochs=epochs).epochs == expected


@pytest.mark.parametrize(("maximize", "sign"), [(True, 1), (False, -1)])
def test_the_best_third_of_a_group_passes_the_first_rung(maximize: bool, sign: int) -> None:
    table = rungs(maximize=maximize)
    assert table.goes_on(0, NET, 1, sign * 0.3)  # the first of all
    assert not table.goes_on(1, NET, 1, sign * 0.2)
    assert not table.goes_on(2, NET, 1, sign * 0.1)
    assert not table.goes_on(3, NET, 1, sign * 0.25)
    assert not table.goes_on(4, NET, 1, sign * 0.05)
    assert table.goes_on(5, NET, 1, sign * 0.28)  # the second of six
    assert not table.goes_on(6, NET, 1, sign * 0.28)  # equal, and later


def test_the_best_that_pause_are_resumed_as_their_share_grows() -> None:
    table = rungs()
    assert table.goes_on(0, NET, 1, 0.9)
    for number, value in ((1, 0.5), (2, 0.7), (3, 0.1), (4, 0.2)):
        assert not table.goes_on(number, NET, 1, value)
    assert table.resumable() == []
    assert not table.goes_on(5, NET, 1, 0.3)
    assert table.resumable() == [2]
    assert table.epochs_to_next(2) == 2
    table.resume(2)
    for number in (6, 7, 8):
        table.goes_on(number, NET, 1, 0.0)
    assert table.resumable() == [1]


def test_the_first_of_a_kind_goes_on() -> None:
    table = rungs(epochs=30)
    assert table.epochs == [1, 3, 9]
    for epoch in table.epochs:
        assert table.goes_on(0, NET, epoch, 0.2)
        assert table.goes_on(1, OTHER, epoch, 0.7) == (epoch == 1)  # of a backbone: passes the first rung
        assert table.goes_on(2, ("frozen",), epoch, 0.1)


def test_the_most_advanced_is_resumed_first() -> None:
    table = rungs(reduction=2)
    for number, value in enumerate([0.9, 0.5, 0.4, 0.3]):
        table.goes_on(number, NET, 1, value)
    assert table.resumable() == [1]
    for number, value in ((10, 0.9), (11, 0.6), (12, 0.6), (13, 0.6)):
        table.goes_on(number, ("frozen",), 2, value)
    assert table.resumable() == [11, 1]
    assert table.epochs_to_next(11) == 2


def test_a_trial_that_pauses_at_a_later_rung_is_not_resumed_for_its_earlier_one() -> None:
    table = rungs()
    for number, value in enumerate((0.3, 0.2, 0.4)):
        table.goes_on(number, NET, 1, value)
    assert table.goes_on(9, OTHER, 3, 0.9)
    assert not table.goes_on(2, NET, 3, 0.5)
    assert table.resumable() == []


def test_who_fell_far_behind_is_let_go() -> None:
    table = rungs(reduction=100)
    for number in range(IN_LINE + 3):
        table.goes_on(number, NET, 1, -number)
    assert table.out_of_line() == [IN_LINE, IN_LINE + 1, IN_LINE + 2]


def test_a_slow_backbone_passes_among_its_own() -> None:
    table = rungs()
    for number in range(6):
        table.goes_on(number, NET, 1, 0.9)
    assert table.goes_on(6, OTHER, 1, 0.3)  # the first
    assert not table.goes_on(7, OTHER, 1, 0.2)
    assert table.goes_on(8, OTHER, 1, 0.4)


def test_of_a_kind_half_as_many_pass_as_of_a_backbone() -> None:
    table = rungs()
    for number in range(5):
        assert table.goes_on(number, ("trainable", f"net {number}"), 1, 0.1)  # the first of a backbone
    assert table.goes_on(5, ("trainable", "net 0"), 1, 0.3)  # the best of six
    assert not table.goes_on(6, ("trainable", "net 1"), 1, 0.2)


def test_between_rungs_everything_goes_on() -> None:
    table = rungs()
    for number in range(3):
        table.goes_on(number, NET, 1, 0.9)
    assert not table.goes_on(3, NET, 1, 0.0)
    assert table.goes_on(4, NET, 2, 0.0)
    assert table.goes_on(4, NET, 8, 0.0)


def test_a_slow_warmer_is_compared_with_its_own_kind() -> None:
    """The textile curves of DESIGN.md: 0.33 after an epoch with everything trainable, 0.73 at once when frozen."""
    table = rungs()
    frozen, trainable = groups_of("net", 1.0), groups_of("net", 0.0)
    for number in range(5):
        table.goes_on(number, frozen, 1, 0.73)
    assert table.goes_on(5, trainable, 1, 0.33)
    assert not table.goes_on(6, frozen, 1, 0.33)
    assert not table.goes_on(7, trainable, 1, 0.3)


def test_groups_are_how_much_trains_and_within_that_backbones() -> None:
    assert groups_of("net", 0.0) == groups_of("net", 0.5)
    assert len({groups_of("net", depth) for depth in (0.0, 0.75, 1.0)}) == 3
    (kind, narrow), (other_kind, other_narrow) = groups_of("net", 0.0), groups_of("other", 0.0)
    assert kind == other_kind
    assert narrow != other_narrow


def test_a_trial_is_not_compared_with_itself() -> None:
    table = rungs(reduction=2)
    table.goes_on(0, NET, 1, 0.9)
    assert not table.goes_on(1, NET, 1, 0.1)
    assert not table.goes_on(1, NET, 1, 0.5)
    assert not table.goes_on(2, NET, 1, 0.2)
    assert table.goes_on(3, NET, 1, 0.6)
