"""Depth and confidence as artifacts hold them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdepth.pipeline.compact import compact, packed, rounded, unpacked
from refdepth.pipeline.files import write_arrays
from refdepth.types.depth_map import DepthMap

DOCUMENT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def rough(shape: tuple[int, int]) -> DepthMap:
    """Depth over six decades, known in half of the picture."""
    rng = np.random.default_rng(0)
    depth = np.exp(rng.uniform(np.log(1e-3), np.log(1e3), shape)).astype(np.float32)
    confidence = rng.uniform(0, 1, shape).astype(np.float32)
    return DepthMap(depth=depth, confidence=confidence).within(rng.uniform(size=shape) > 0.5)


def test_depth_is_stored_to_a_ten_thousandth_and_unknown_stays_unknown():
    given = rough((200, 300))
    arrays = compact(given)
    assert arrays["depth"].dtype == np.float32
    stored = DepthMap(**unpacked(arrays))
    np.testing.assert_array_equal(stored.valid, given.valid)
    np.testing.assert_allclose(stored.depth, given.depth, rtol=2.0**-14)
    np.testing.assert_allclose(stored.confidence, given.confidence, atol=0.5 / 255 + 1e-6)
    assert (stored.confidence <= 1).all()
    for name, array in compact(stored).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_all_levels_of_confidence_outlive_being_stored():
    given = np.arange(256, dtype=np.float32)[None] / np.float32(255)
    plain = compact(DepthMap(depth=np.ones_like(given), confidence=given))
    np.testing.assert_array_equal(unpacked(plain)["confidence"], given)
    np.testing.assert_array_equal(unpacked(packed(confidence=given))["confidence"], given)


def test_what_is_stored_takes_less_than_a_third_of_plain_floats(tmp_path):
    y, x = np.mgrid[0:300, 0:400]
    depth = (3 + np.sin(x / 70) * np.cos(y / 90)).astype(np.float32)
    noise = np.random.default_rng(0).normal(scale=1e-3, size=depth.shape)
    given = DepthMap(
        depth=(depth * (1 + noise)).astype(np.float32),
        confidence=(0.5 + 0.4 * np.sin(x / 30)).astype(np.float32),
    ).within(x + y < 500)
    write_arrays(tmp_path / "a.npz", compact(given), compressed=True)
    assert (tmp_path / "a.npz").stat().st_size < 2 / 3 * given.depth.nbytes


def test_signs_and_what_is_not_finite_are_kept():
    given = np.array([np.nan, np.inf, -np.inf, 0.0, -1.23456789, 1.99999994], np.float32)
    stored = rounded(given)
    np.testing.assert_allclose(stored, given, rtol=2.0**-14)
    np.testing.assert_array_equal(rounded(stored), stored)


def surface() -> DepthMap:
    """A smooth surface with a little noise, unknown in a corner."""
    y, x = np.mgrid[0:300, 0:400]
    noise = np.random.default_rng(0).normal(scale=3e-4, size=y.shape)
    depth = (3 + np.sin(x / 70) * np.cos(y / 90)) * (1 + noise)
    confidence = 0.5 + 0.4 * np.sin(x / 30)
    found = DepthMap(depth=depth.astype(np.float32), confidence=confidence.astype(np.float32))
    return found.within(x + y < 500)


def plain_bits(coded: np.ndarray) -> np.ndarray:
    """What packed bytes (3, h, w) stand for, number by number: bits of float32 (h, w)."""
    _, height, width = coded.shape
    bits = np.zeros((height, width), np.uint32)
    known = np.zeros((height + 1, width + 1), object)  # with a border of 0
    for row in range(height):
        for column in range(width):
            code = sum(int(coded[place, row, column]) << 8 * place for place in range(3))
            rest = -(code + 1) // 2 if code % 2 else code // 2
            plane = known[row, column + 1] + known[row + 1, column] - known[row, column]
            known[row + 1, column + 1] = (plane + rest) % (1 << 22)
            bits[row, column] = known[row + 1, column + 1] << 10
    return bits


@pytest.mark.parametrize("shape", [(9, 14), (1, 1), (1, 7), (7, 1), (0, 3)])
def test_packed_values_are_what_plain_artifacts_hold_to_the_last_bit(shape):
    rng = np.random.default_rng(1)
    values = rng.normal(scale=100, size=shape).astype(np.float32)
    odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38], np.float32)
    values.flat[: len(odd)] = odd[: values.size]
    stored = packed(values=values)
    bits = rounded(values).view(np.uint32)
    np.testing.assert_array_equal(plain_bits(stored["values.packed"]), bits)
    np.testing.assert_array_equal(unpacked(stored)["values"].view(np.uint32), bits)


def test_parts_of_larger_arrays_are_packed_too():
    whole = np.random.default_rng(2).normal(size=(8, 12)).astype(np.float32)
    for part in (whole[::2, 1::3], whole.T):
        np.testing.assert_array_equal(unpacked(packed(values=part))["values"], rounded(part))


def test_a_packed_depth_map_comes_back_with_what_else_is_stored():
    given = rough((40, 60))
    found = unpacked({**packed(**vars(given)), "usable": given.valid})
    assert set(found) == {"depth", "confidence", "usable"}
    assert found["depth"].dtype == found["confidence"].dtype == np.float32
    np.testing.assert_array_equal(found["depth"], compact(given)["depth"])
    np.testing.assert_allclose(found["confidence"], given.confidence, atol=0.5 / 255 + 1e-6)
    again = packed(confidence=found["confidence"])
    np.testing.assert_array_equal(unpacked(again)["confidence"], found["confidence"])
    np.testing.assert_array_equal(found["usable"], given.valid)


def test_packed_maps_take_half_of_plain_ones(tmp_path):
    given = surface()
    write_arrays(tmp_path / "plain.npz", compact(given), compressed=True)
    write_arrays(tmp_path / "packed.npz", packed(**vars(given)), compressed=True)
    plain, small = ((tmp_path / f"{name}.npz").stat().st_size for name in ("plain", "packed"))
    assert small < plain / 2


@pytest.mark.parametrize(
    "damaged", [np.zeros((2, 4, 5), np.uint8), np.zeros((4, 5), np.uint8), np.zeros((3, 4, 5))]
)
def test_bytes_of_another_shape_or_type_are_refused(damaged):
    with pytest.raises(ValueError, match="packed"):
        unpacked({"depth.packed": damaged})


def test_the_lines_in_the_documentation_read_a_packed_map(tmp_path):
    given = surface()
    write_arrays(tmp_path / "a.npz", packed(**vars(given)), compressed=True)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
    (code,) = [block for block in blocks if "depth.packed" in block]
    found: dict[str, Any] = {"np": np}
    exec(code.replace("OUT/fuse/IMG_0001.jpg.npz", str(tmp_path / "a.npz")), found)
    np.testing.assert_array_equal(found["agreed"], rounded(given.depth))
    np.testing.assert_allclose(found["confidence"], given.confidence, atol=0.5 / 255 + 1e-6)
