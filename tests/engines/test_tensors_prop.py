from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isochrone.engines.tensors import (
    DTYPES,
    datatype_of,
    from_binary,
    from_json,
    to_binary,
    to_json,
)

NUMBERS = [name for name in DTYPES if name != "BYTES"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw, *, finite: bool):
    dtype = DTYPES[draw(st.sampled_from(NUMBERS))]
    options = {"allow_nan": not finite, "allow_infinity": not finite} if dtype.kind == "f" else {}
    elements = hnp.from_dtype(dtype, **options)
    return draw(hnp.arrays(dtype, SHAPES, elements=elements))


@given(arrays(finite=False))
def test_binary_round_trip_keeps_every_bit(array) -> None:
    back = from_binary(to_binary(array), datatype_of(array), array.shape)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@given(arrays(finite=True))
def test_json_round_trip_keeps_every_value(array) -> None:
    back = from_json(to_json(array), datatype_of(array), array.shape)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_bytes_round_trip(elements) -> None:
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    back = from_binary(to_binary(array), "BYTES", [len(elements)])
    assert back.tolist() == elements


@given(st.lists(st.text(max_size=20), max_size=6))
def test_text_round_trip_in_json(elements) -> None:
    back = from_json(elements, "BYTES", [len(elements)])
    assert to_json(back) == elements
