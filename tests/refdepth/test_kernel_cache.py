"""Which folder compiled code is kept in, and whose it has to be."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from numba import types

from refdepth import kernel_cache
from refdepth.compiled import kernel
from refdepth.kernel_cache import KernelCache, code_file, kernels_folder


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An installation, a cache folder of the user and one for temporary files; none is taken yet.
    What is a file instead of a folder cannot be written in, by root neither."""
    for name in ("package", "cache", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(kernel_cache, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(kernel_cache.config, "CACHE_DIR", "")
    monkeypatch.setattr(kernel_cache.tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels_folder.cache_clear()
    yield tmp_path
    kernels_folder.cache_clear()


def refuse(*folders: Path) -> None:
    for folder in folders:
        folder.rmdir()
        folder.touch()


def test_the_first_folder_that_can_be_written_is_taken(places, monkeypatch):
    found = []
    monkeypatch.setattr(kernel_cache.config, "CACHE_DIR", str(places / "chosen"))
    for given_up in ("chosen", "package", "cache", "temporary", None):
        found.append(kernels_folder())
        kernels_folder.cache_clear()
        if given_up == "chosen":
            monkeypatch.setattr(kernel_cache.config, "CACHE_DIR", "")
        elif given_up:
            (places / given_up).rename(places / f"{given_up}.away")
            (places / given_up).touch()
    chosen, beside, users, temporary, none = found
    assert chosen.parent == places / "chosen"
    assert beside == places / "package" / "__pycache__"
    assert users.parent == places / "cache" / "refdepth"
    assert temporary.parent == places / "temporary" / f"refdepth-{os.getuid()}"
    assert none is None


def test_a_chosen_folder_that_cannot_be_written_is_passed_over(places, monkeypatch):
    (places / "file").touch()
    monkeypatch.setattr(kernel_cache.config, "CACHE_DIR", str(places / "file"))
    assert kernels_folder() == places / "package" / "__pycache__"


def test_the_users_folders_are_made_so_that_nobody_else_reads_or_writes(places):
    refuse(places / "package")
    assert kernels_folder().parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_temporary_folder_that_others_may_write_is_refused(places, mode):
    refuse(places / "package", places / "cache")
    private = places / "temporary" / f"refdepth-{os.getuid()}"
    private.mkdir()
    private.chmod(mode)
    assert kernels_folder() is None


def test_a_link_in_the_place_of_the_temporary_folder_is_refused(places):
    refuse(places / "package", places / "cache")
    (places / "elsewhere").mkdir()
    (places / "temporary" / f"refdepth-{os.getuid()}").symlink_to(places / "elsewhere")
    assert kernels_folder() is None
    assert list((places / "elsewhere").iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")
@pytest.mark.parametrize("name", ["cache", "temporary"])
def test_a_folder_of_another_user_is_refused(places, name):
    refuse(places / "package")
    owned = places / name / ("refdepth" if name == "cache" else f"refdepth-{os.getuid()}")
    owned.mkdir()
    os.chown(owned, 12345, 12345)
    if name == "temporary":
        refuse(places / "cache")
    found = kernels_folder()
    assert found is None or not found.is_relative_to(places / name)


def test_a_folder_in_a_place_where_others_can_exchange_it_is_refused(places):
    refuse(places / "package", places / "cache")
    (places / "temporary").chmod(0o777)
    assert kernels_folder() is None
    (places / "temporary").chmod(0o1777)
    kernels_folder.cache_clear()
    assert kernels_folder() is not None


def test_the_file_is_another_for_other_arguments_sources_and_machines(tmp_path, monkeypatch):
    def name() -> str:
        return code_file(tmp_path, "refdepth.a:b", "int64", "sources").name

    before = name()
    assert before == code_file(tmp_path, "refdepth.a:b", "int64", "sources").name
    assert before != code_file(tmp_path, "refdepth.a:b", "float64", "sources").name
    assert before != code_file(tmp_path, "refdepth.a:b", "int64", "other").name
    assert before != code_file(tmp_path, "refdepth.c:b", "int64", "sources").name
    monkeypatch.setattr(kernel_cache.numba, "__version__", "99")
    other_numba = name()
    monkeypatch.setattr(kernel_cache, "machine", lambda: "another processor")
    assert len({before, other_numba, name()}) == 3


def increase(value):
    return value + 1


def test_a_full_disk_costs_the_next_start_and_not_this_run(tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel_cache, "kernels_folder", lambda: tmp_path)
    monkeypatch.setattr(kernel_cache, "_write", full)
    kernel_cache._warn_that_it_was_refused.cache_clear()
    assert kernel(increase)(1) == 2
    assert kernel(increase)(1.5) == 2.5
    assert caplog.text.count("No space left") == 1
    assert "NUMBA_CACHE_DIR" in caplog.text


def compile_for(folder: Path, kind: str) -> None:
    kernel_cache.kernels_folder = lambda: folder
    kernel(increase).compile((getattr(types, kind),))


def test_processes_that_compile_for_other_arguments_at_once_lose_nothing(tmp_path):
    kinds = ["int32", "int64", "float32", "float64", "uint8", "complex64"]
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        list(pool.map(compile_for, [tmp_path] * len(kinds), kinds))
    cache = KernelCache(increase)
    names = {cache.file((getattr(types, kind),)).name for kind in kinds}
    assert {path.name for path in tmp_path.iterdir()} == names
