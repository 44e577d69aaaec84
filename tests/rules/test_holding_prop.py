"""Hold-back: slots keep every unit until its epoch, whatever is added, taken and released."""

from hypothesis import given
from hypothesis import strategies as st

from isochrone.rules.holding import added, released, taken
from isochrone.schema.settlement import Held

EMPTY = Held(account="0xp", lease="l", service="s", until_epoch=0, amounts_microusd=())
steps = st.lists(
    st.tuples(st.sampled_from(("add", "take")), st.integers(0, 6), st.integers(0, 50)),
    max_size=30,
)


@given(steps)
def test_a_row_is_a_table_of_epochs(events: list[tuple[str, int, int]]) -> None:
    row, model = EMPTY, dict[int, int]()
    for epoch, (kind, ahead, amount) in enumerate(events, start=100):
        if kind == "add":
            row = added(row, epoch + ahead, amount)
            model[epoch + ahead] = model.get(epoch + ahead, 0) + amount
        else:
            row, got = taken(row, amount)
            for until in sorted(model):
                part = min(model[until], amount)
                model[until], amount, got = model[until] - part, amount - part, got - part
            assert got == 0
        row, out = released(row, epoch)
        assert out == sum(model.pop(until) for until in list(model) if until <= epoch)
        slots = enumerate(row.amounts_microusd, row.until_epoch)
        assert {until: amount for until, amount in slots if amount} == {
            until: amount for until, amount in model.items() if amount
        }
        assert not row.amounts_microusd or (row.amounts_microusd[0] and row.amounts_microusd[-1])
