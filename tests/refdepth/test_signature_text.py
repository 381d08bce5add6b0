"""Argument types of kernels as text, and back."""

import numba
import numpy as np
import pytest
from numba import types

from refdepth.signature_text import parse_signature, signature_text

SQUARE = np.zeros((3, 4, 5), np.float32)
FROZEN = SQUARE.copy()
FROZEN.flags.writeable = False
VALUES = [
    (SQUARE, "float32[:,:,::1]"),
    (SQUARE.T, "float32[::1,:,:]"),
    (SQUARE[::2, ::2], "float32[:,:,:]"),
    (SQUARE[0, 0], "float32[::1]"),
    (SQUARE[0, :, 0], "float32[:]"),
    (FROZEN, "const float32[:,:,::1]"),
    (FROZEN.T, "const float32[::1,:,:]"),
    (SQUARE > 0, "bool[:,:,::1]"),
    (SQUARE.astype(np.uint8), "uint8[:,:,::1]"),
    (1, "int64"),
    (1.5, "float64"),
    (np.uint32(3), "uint32"),
    (True, "bool"),
    (None, "none"),
    ((1, 2), "(int64, int64)"),
    ((1, SQUARE.T, (2.0,)), "(int64, float32[::1,:,:], (float64,))"),
]


@pytest.mark.parametrize(("value", "text"), VALUES, ids=[text for _, text in VALUES])
def test_the_text_of_what_numba_sees_gives_the_same_type_again(value, text):
    seen = (numba.typeof(value),)
    assert signature_text(seen) == text
    assert parse_signature(text) == seen


def test_several_arguments_none_and_defaults():
    text = "float64, omitted(1.0), int64"
    assert parse_signature(text) == (types.float64, types.Omitted(1.0), types.int64)
    assert signature_text(parse_signature(text)) == text
    assert parse_signature("") == ()


@pytest.mark.parametrize(
    "text", ["float32[", "unknown", "Array", "float32[:,::1]) + f(1", "f(1)", "int64 = 3"]
)
def test_what_is_no_signature_is_refused(text):
    with pytest.raises(ValueError, match="signature"):
        parse_signature(text)
