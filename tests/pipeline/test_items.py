from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from refdepth.errors import InputError
from refdepth.pipeline.compact import packed
from refdepth.pipeline.items import ItemStore, safe_name


@pytest.fixture
def store(tmp_path: Path) -> ItemStore:
    items = ItemStore(tmp_path, "print-1")
    items.write("a.jpg", {"depth": np.ones((2, 2), np.float32)}, {"note": "x"})
    return items


def test_a_written_item_is_done_and_comes_back(store: ItemStore) -> None:
    assert store.is_done("a.jpg")
    assert not store.is_done("b.jpg")
    assert store.record("a.jpg") == {"note": "x"}
    np.testing.assert_array_equal(store.arrays("a.jpg")["depth"], np.ones((2, 2)))


def test_another_fingerprint_makes_an_item_count_as_not_done(store: ItemStore) -> None:
    assert not ItemStore(store.folder, "print-2").is_done("a.jpg")


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "no record", "record garbage"])
def test_damage_makes_an_item_count_as_not_done(store: ItemStore, damage: str) -> None:
    path = store.arrays_path("a.jpg")
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-7])
    elif damage == "flip":
        content[-30] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
    elif damage == "remove":
        path.unlink()
    elif damage == "no record":
        store.record_path("a.jpg").unlink()
    else:
        store.record_path("a.jpg").write_text('{"fingerprint": "print-1", "file": 3}')
    assert not store.is_done("a.jpg")


def test_arrays_without_a_record_are_no_finished_item(store: ItemStore) -> None:
    path = store.write_arrays("left/c.jpg", {"depth": np.ones(3)})
    assert path == store.folder / "left" / "c.jpg.npz"
    np.testing.assert_array_equal(store.arrays("left/c.jpg")["depth"], np.ones(3))
    assert not store.is_done("left/c.jpg")


def test_packed_arrays_are_read_as_the_maps_they_stand_for(store: ItemStore) -> None:
    values = np.linspace(1, 2, 12, dtype=np.float32).reshape(3, 4)
    store.write("b.jpg", packed(values=values), {})
    np.testing.assert_allclose(store.arrays("b.jpg")["values"], values, rtol=2.0**-14)
    store.write("b.jpg", {"values.packed": np.zeros(5, np.uint8)}, {})
    with pytest.raises(InputError, match=r"b\.jpg\.npz"):
        store.arrays("b.jpg")


def test_unreadable_arrays_are_reported_with_their_path(store: ItemStore) -> None:
    store.arrays_path("a.jpg").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(InputError, match=r"a\.jpg\.npz"):
        store.arrays("a.jpg")


def test_items_of_inputs_that_are_gone_are_removed(store: ItemStore) -> None:
    store.write("b.jpg", {"depth": np.zeros(1)}, {})
    store.remove_others(["b.jpg"])
    assert not store.arrays_path("a.jpg").exists()
    assert store.is_done("b.jpg")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a\\b", "a\0b"])
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        safe_name(name)


def test_a_bare_item_is_its_record(tmp_path: Path) -> None:
    items = ItemStore(tmp_path, "print-1", bare=True)
    (tmp_path / "a.jpg.npz").write_bytes(b"of an earlier version")
    items.write("a.jpg", {}, {"note": "x"})
    assert items.is_done("a.jpg")
    assert items.paths(["a.jpg"]) == [tmp_path / "a.jpg.json"]
    assert not ItemStore(tmp_path, "print-2", bare=True).is_done("a.jpg")
    assert not ItemStore(tmp_path, "print-1").is_done("a.jpg")
