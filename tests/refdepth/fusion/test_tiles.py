"""Tiles cut along a curve, and the files that views' points lie in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from refdepth.fusion.tiles import cut_tiles, read_rows, write_rows
from refdepth.fusion.voxels import Lattice, VoxelGrid, block_keys

LATTICE = Lattice(origin=(0.0, 0.0, 0.0), voxel=1.0)
VIEWS = ("one", "two", "three")
BLOCK = 256.0


def given(seed: int, count: int = 400, width: float = 3000.0) -> np.ndarray:
    """Rows of points all over some blocks, fine and coarse."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-width, width, (count, 3))
    spacing = np.exp2(rng.integers(-9, 10, count).astype(float))
    return LATTICE.rows(points, rng.normal(size=(count, 7)), np.ones(count), spacing)


def test_blocks_lie_along_a_morton_curve() -> None:
    """Worked out by hand: bits of x, y and z interleaved, x first."""
    blocks = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1], [2, 0, 0], [0, 0, 3]])
    points = (blocks + 0.5) * BLOCK
    key = np.concatenate(
        [
            block_keys(LATTICE.rows(point[None], np.ones((1, 7)), np.ones(1), np.ones(1)))
            for point in points
        ]
    )
    np.testing.assert_array_equal(key - key[0], [0, 1, 2, 4, 7, 32, 9])


def test_cells_of_all_levels_in_one_block_have_its_key() -> None:
    point = np.array([[-700.3, 20.1, 511.9]])
    sizes = 2.0 ** np.arange(-8, 8)
    rows = [LATTICE.rows(point, np.ones((1, 7)), np.ones(1), np.array([size])) for size in sizes]
    assert len(np.unique(np.concatenate([block_keys(part) for part in rows]))) == 1
    assert len({int(part["level"][0]) for part in rows}) == len(sizes)


@pytest.mark.parametrize("most", [1, 100, 10**6])
def test_each_row_lies_in_one_tile_and_each_view_in_the_tiles_it_sees(
    most: int, tmp_path: Path
) -> None:
    parts = {name: [given(3 * n), given(3 * n + 1)] for n, name in enumerate(VIEWS)}
    index = {name: write_rows(tmp_path / name, iter(parts[name])) for name in VIEWS}
    tiles = cut_tiles(VIEWS, index.__getitem__, most)
    found: dict[str, list[np.ndarray]] = {name: [] for name in VIEWS}
    per_block = Counter(k for n in VIEWS for p in parts[n] for k in block_keys(p).tolist())
    for tile in tiles:
        rows = {n: list(read_rows(tmp_path / n, index[n], tile)) for n in VIEWS}
        assert tile.views == tuple(name for name in VIEWS if rows[name])
        keys = {k for n in VIEWS for part in rows[n] for k in block_keys(part).tolist()}
        held = sum(len(part) for n in VIEWS for part in rows[n])
        assert held <= most or len(keys) == 1
        assert held == sum(per_block[key] for key in keys)  # its blocks are whole
        for name in VIEWS:
            found[name] += rows[name]
    for name in VIEWS:
        got = np.concatenate(found[name])
        assert sorted(row.tobytes() for row in got) == sorted(
            row.tobytes() for row in np.concatenate(parts[name])
        )
    assert (len(tiles) == 1) == (most == 10**6)


def test_rows_of_one_voxel_come_in_the_order_of_their_parts(tmp_path: Path) -> None:
    """What is summed in another order has other last digits."""
    parts = [given(7, width=1.0), given(8, width=1.0)]
    index = write_rows(tmp_path / "rows", iter(parts))
    (tile,) = cut_tiles(["rows"], lambda _: index, 10**6)
    got = np.concatenate(list(read_rows(tmp_path / "rows", index, tile)))
    whole = np.concatenate(parts)
    for level, *cell in np.unique(
        np.concatenate([whole["level"][:, None], whole["cell"]], axis=1), axis=0
    ):
        same = [(r["level"] == level) & (r["cell"] == cell).all(axis=1) for r in (got, whole)]
        np.testing.assert_array_equal(got["weight"][same[0]], whole["weight"][same[1]])
        np.testing.assert_array_equal(got["sums"][same[0]], whole["sums"][same[1]])


def test_a_file_that_ends_early_is_no_smaller_cloud(tmp_path: Path) -> None:
    index = write_rows(tmp_path / "rows", iter([given(0)]))
    (tile,) = cut_tiles(["rows"], lambda _: index, 10**6)
    content = (tmp_path / "rows").read_bytes()
    (tmp_path / "rows").write_bytes(content[:-1])
    with pytest.raises(OSError, match="ends early"):
        list(read_rows(tmp_path / "rows", index, tile))


def test_a_full_disk_is_what_the_error_says(tmp_path: Path) -> None:
    """Of files, and of what is spilled."""
    many = given(0, count=40_000)
    with pytest.raises(OSError, match="No space left"):
        write_rows(Path("/dev/full"), iter([many]))
    grid = VoxelGrid(LATTICE, 1, tmp_path)
    scratch = next(tmp_path.iterdir())
    for bucket in range(64):
        (scratch / f"{bucket:02d}.rows").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        grid.add(many)
    grid.close()
