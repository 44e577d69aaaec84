"""The benchmark of place, in small: lies fail, and a planted one shows that it would notice."""

from __future__ import annotations

from bench.place import NEXT_DOOR_US, Lie, World, lies, physical

WORLD = World()


def test_no_lie_is_proven_and_every_figure_is_told() -> None:
    figures = physical(WORLD, 400)
    assert figures["lies"] == 400
    assert figures["false_proofs"] == 0
    assert figures["vantages_for_1e5"] == 11
    assert figures["distrusted"] == ["auckland", "prague", "rome", "wellington"]


def test_lies_are_far_and_about_another_jurisdiction() -> None:
    for lie in lies(WORLD, 300):
        assert WORLD.km[lie.truth, lie.claimed] >= 500
        assert WORLD.places[lie.truth].country not in WORLD.admitted(lie)
        assert lie.truth not in lie.vantages
        assert min(lie.delays_us) >= 0


def test_three_colluders_do_prove_what_is_false() -> None:
    row = {place.metro: index for index, place in enumerate(WORLD.places)}
    three = tuple(row[metro] for metro in ("madrid", "dallas", "chicago"))
    in_spain = Lie(row["zagreb"], row["madrid"], "ES", three, (0, 0, 0))
    everybody = range(len(WORLD.places))
    assert NEXT_DOOR_US < 1000
    assert not WORLD.proven(in_spain, everybody, frozenset(three))  # two stand in another country
    american = tuple(row[metro] for metro in ("denver", "dallas", "chicago"))
    in_america = Lie(row["zagreb"], row["denver"], "US", american, (0, 0, 0))
    assert WORLD.proven(in_america, everybody, frozenset(american))
    assert not WORLD.proven(in_america, everybody, frozenset(american[:2]))
    assert not WORLD.proven(in_america, american[:2], frozenset(american))
