import numpy as np
import pytest
from hypothesis import strategies as st

from fp4guard.formats import E2M1, E4M3, E8M0, LAYOUTS, NibbleOrder
from fp4guard.formats.layouts import Padding
from fp4guard.oracle import ExpectedCodes


@st.composite
def _expectations(draw):
    """Any of them: every layout, packed or not, with and without codes that are left open and a stated padding."""
    fmt, layout = draw(st.sampled_from([E2M1, E4M3, E8M0])), draw(st.sampled_from(list(LAYOUTS.values())))
    order = draw(st.sampled_from([None, *NibbleOrder])) if fmt is E2M1 else None
    a_byte = 1 if order is None else 2
    row, column = layout.padded_to if layout.padding_contract is Padding.NONE else (1, 1)
    rows, columns = row * draw(st.integers(1, 5)), column * draw(st.integers(1, 4))
    shape = (*draw(st.sampled_from([(), (2,)])), rows, columns * a_byte)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    codes = rng.integers(0, fmt.codes, shape).astype(np.uint8)
    codes[codes == fmt.nan] = 1
    codes[codes == 0xFF] = 2
    return ExpectedCodes(
        fmt,
        codes,
        rng.random(shape) < 0.2 if draw(st.booleans()) else None,
        packing=order,
        layout=layout,
        padding=draw(st.sampled_from([None, 0, 0x7F])),
    )


@pytest.fixture(scope="session")
def expectations():
    """A strategy of `ExpectedCodes`."""
    return _expectations()
