"""When a view counts as refined, whatever a kill has left of its final item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refdepth.pipeline.calibration import DEPTH, hash_array, is_refined
from refdepth.pipeline.items import ItemStore

NAME = "a.png"


@pytest.fixture
def stores(tmp_path: Path) -> tuple[ItemStore, ItemStore]:
    second, final = (ItemStore(tmp_path / name, "fingerprint") for name in ("second", "final"))
    depth = np.arange(6, dtype=np.float32).reshape(2, 3)
    final.write(NAME, {"depth": depth, "confidence": depth > 2}, {"sources": 3})
    second.write(NAME, {"order": depth}, {DEPTH: hash_array(depth)})
    return second, final


def depth_of(final: ItemStore) -> np.ndarray:
    return final.arrays(NAME)["depth"]


def test_both_items_whole(stores) -> None:
    assert is_refined(*stores, NAME)


def test_a_kill_between_new_confidence_and_its_record(stores) -> None:
    _, final = stores
    final.write_arrays(NAME, {"depth": depth_of(final), "confidence": np.ones((2, 3), bool)})
    assert not final.is_done(NAME)
    assert is_refined(*stores, NAME)


def test_another_depth_is_not_what_the_second_round_left(stores) -> None:
    _, final = stores
    final.write_arrays(NAME, {"depth": depth_of(final) + 1, "confidence": np.ones((2, 3), bool)})
    assert not is_refined(*stores, NAME)


@pytest.mark.parametrize("lost", ["npz", "json"])
def test_a_lost_file_of_the_final_item_is_made_again(stores, lost: str) -> None:
    _, final = stores
    (final.folder / f"{NAME}.{lost}").unlink()
    assert not is_refined(*stores, NAME)


def test_a_changed_record_is_made_again(stores) -> None:
    _, final = stores
    path = final.record_path(NAME)
    path.write_text(path.read_text().replace('"sources": 3', '"sources": 4'))
    assert "4" in path.read_text()
    assert not is_refined(*stores, NAME)


def test_without_a_second_round_there_is_nothing(stores) -> None:
    second, _ = stores
    second.record_path(NAME).unlink()
    assert not is_refined(*stores, NAME)
