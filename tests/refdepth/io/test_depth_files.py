"""Depth files: every format round-trips, every bad file is refused with its name."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refdepth.errors import ConfigurationError, InputError
from refdepth.io.depth_files import read_depth_file, write_depth_file


@pytest.fixture
def depth() -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.5, 20, (7, 11)).astype(np.float32)
    values[2, 3] = 0
    return values


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".tif", ".TIFF"])
def test_float_formats_return_the_same_values(
    tmp_path: Path, depth: np.ndarray, suffix: str
) -> None:
    depth[0, 0] = np.nan
    path = tmp_path / f"map{suffix}"
    write_depth_file(path, depth)
    np.testing.assert_array_equal(read_depth_file(path), depth)


def test_png_holds_millimetres_or_the_given_scale(tmp_path: Path, depth: np.ndarray) -> None:
    path = tmp_path / "map.png"
    write_depth_file(path, depth)
    with Image.open(path) as picture:
        assert picture.mode == "I;16"
        assert np.asarray(picture)[0, 0] == round(float(depth[0, 0]) * 1000)
    np.testing.assert_allclose(read_depth_file(path), depth, atol=0.00051)
    write_depth_file(path, depth, png_scale=1 / 256)
    np.testing.assert_allclose(read_depth_file(path, png_scale=1 / 256), depth, atol=1 / 500)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16, np.int32, ">f4"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (1, 4, 5)])
def test_other_number_types_and_a_trailing_axis_are_accepted(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    values = np.arange(20).reshape(shape).astype(dtype)
    np.save(tmp_path / "map.npy", values)
    result = read_depth_file(tmp_path / "map.npy")
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.arange(20).reshape(4, 5))


def test_archives_give_depth_or_their_only_array(tmp_path: Path, depth: np.ndarray) -> None:
    path = tmp_path / "map.npz"
    np.savez_compressed(path, K=np.eye(3), depth=depth)
    np.testing.assert_array_equal(read_depth_file(path), depth)
    np.savez(path, anything=depth)
    np.testing.assert_array_equal(read_depth_file(path), depth)
    np.savez(path, a=depth, b=depth)
    with pytest.raises(InputError, match="it holds a, b, no array named 'depth'"):
        read_depth_file(path)


def test_infinity_becomes_unknown(tmp_path: Path) -> None:
    np.save(tmp_path / "map.npy", np.array([[1.0, np.inf, -np.inf, np.nan]]))
    np.testing.assert_array_equal(
        np.isnan(read_depth_file(tmp_path / "map.npy")), [[False, True, True, True]]
    )


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "plain.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("array.npy", "plain.npy"):
        with pytest.raises(InputError, match=name):
            read_depth_file(tmp_path / name)


def huge_npy() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"shape": (1 << 20, 1 << 20), "fortran_order": False, "descr": "<f4"}
    )
    return buffer.getvalue()


def test_announced_sizes_are_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "map.npy").write_bytes(huge_npy())
    with pytest.raises(InputError, match="too large"):
        read_depth_file(tmp_path / "map.npy")
    with zipfile.ZipFile(tmp_path / "map.npz", "w") as archive:
        archive.writestr("depth.npy", huge_npy())
    with pytest.raises(InputError, match="too large"):
        read_depth_file(tmp_path / "map.npz")


def test_broken_files_are_refused_by_name(tmp_path: Path, depth: np.ndarray) -> None:
    for suffix in (".npy", ".npz", ".tif", ".png"):
        whole = tmp_path / f"whole{suffix}"
        write_depth_file(whole, depth)
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        empty = tmp_path / f"empty{suffix}"
        empty.touch()
        noise = tmp_path / f"noise{suffix}"
        noise.write_bytes(bytes(range(256)) * 4)
        for path in (cut, empty, noise, tmp_path / f"absent{suffix}"):
            with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
                read_depth_file(path)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 3, 3)),
        np.zeros(5),
        np.zeros((0, 4)),
        np.zeros((3, 3), bool),
        np.zeros((3, 3), complex),
        np.full((3, 3), np.nan),
        np.full((3, 3), 1e300),
    ],
)
def test_arrays_that_are_no_depth_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "map.npy", values)
    with pytest.raises(InputError, match=r"map\.npy"):
        read_depth_file(tmp_path / "map.npy")


def test_colour_and_8_bit_pictures_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    Image.new("L", (4, 4)).save(tmp_path / "grey.png")
    (tmp_path / "map.exr").touch()
    for name in ("colour.png", "grey.png", "map.exr"):
        with pytest.raises(InputError, match=name):
            read_depth_file(tmp_path / name)


def test_depth_that_16_bits_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not fit 16 bits"):
        write_depth_file(tmp_path / "far.png", np.full((2, 2), 70.0))
    with pytest.raises(ConfigurationError, match=r"cannot write depth as '\.exr'"):
        write_depth_file(tmp_path / "map.exr", np.ones((2, 2)))
    assert not list(tmp_path.iterdir())
