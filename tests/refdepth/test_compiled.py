"""Compiled code is kept between processes, and renewed when any file with kernels changes."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import refdepth

PACKAGE = Path(refdepth.__file__).parent
COMPILING = ("compiled.py", "kernel_cache.py", "signature_text.py", "threads.py", "errors.py")

HELPER = """
from refdepth.compiled import kernel

@kernel
def scaled(value):
    return {factor} * value
"""

CALLER = """
from refdepth.compiled import {decorator}
from refdepth.helper import scaled

@{decorator}
def use(value):
    return scaled(value)
"""

REPORT = """
import json, os, tempfile
tempfile.tempdir = os.environ.get("TEMPORARY")
from refdepth.caller import use

value = use(1.0)
stats = use.stats
print(json.dumps([value, sum(stats.cache_hits.values()), stats.cache_path]))
"""


class Package:
    """A small package called refdepth, with a kernel that calls another file's."""

    def __init__(self, root: Path, decorator: str = "kernel") -> None:
        self.root = root
        self.folder = root / "refdepth"
        self.folder.mkdir()
        (self.folder / "__init__.py").touch()
        for name in COMPILING:
            shutil.copy(PACKAGE / name, self.folder)
        (self.folder / "caller.py").write_text(CALLER.format(decorator=decorator))
        self.write_helper(2.0)

    def write_helper(self, factor: float) -> None:
        (self.folder / "helper.py").write_text(HELPER.format(factor=factor))

    def run(self, **environment: str) -> tuple[float, int, str]:
        """What a fresh process finds: the value, how often kept code was used, and its folder."""
        kept = {name: value for name, value in os.environ.items() if "NUMBA" not in name}
        done = subprocess.run(
            [sys.executable, "-c", REPORT],
            cwd=self.root,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        value, hits, folder = json.loads(done.stdout)
        self.log = done.stderr
        return value, hits, folder


@pytest.fixture
def package(tmp_path):
    return Package(tmp_path)


@pytest.mark.parametrize("decorator", ["kernel", "parallel_kernel"])
def test_a_changed_helper_in_another_file_is_used(tmp_path, decorator):
    package = Package(tmp_path, decorator)
    assert package.run()[:2] == (2.0, 0)
    package.write_helper(3.0)
    assert package.run()[:2] == (3.0, 0)


def test_code_is_kept_while_no_file_with_kernels_changes(package):
    package.run()
    (package.folder / "other.py").write_text("ANSWER = 42")
    assert package.run()[:2] == (2.0, 1)


def test_renewed_code_takes_the_place_of_the_old(package):
    package.run()
    before = kept(package)
    package.write_helper(3.0)
    package.run()
    assert {name.split("-")[0] for name in before} == {"caller.use", "helper.scaled"}
    assert len(kept(package)) == len(before)
    assert kept(package).isdisjoint(before)


def kept(package):
    return {path.name for path in package.folder.glob("__pycache__/*.nbc")}


def test_code_lies_beside_the_file_or_where_the_user_says(package, tmp_path):
    assert package.run()[2] == str(package.folder / "__pycache__")
    chosen = tmp_path / "chosen"
    assert Path(package.run(NUMBA_CACHE_DIR=str(chosen))[2]).parent == chosen


@pytest.fixture
def read_only(package):
    """The package where no folder for compiled code can be made beside it."""
    (package.folder / "__pycache__").touch()
    return package


def test_a_read_only_install_keeps_its_code_with_the_user(read_only, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    value, hits, folder = read_only.run(**environment)
    assert (value, hits) == (2.0, 0)
    assert Path(folder).is_relative_to(home)
    assert read_only.run(**environment)[:2] == (2.0, 1)
    read_only.write_helper(3.0)
    assert read_only.run(**environment)[:2] == (3.0, 0)


def test_without_any_writable_folder_kernels_run_and_one_line_says_so(read_only, tmp_path):
    nowhere = tmp_path / "nowhere"
    nowhere.touch()
    environment = {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere)}
    environment |= {"TEMPORARY": str(nowhere)}
    assert read_only.run(**environment)[:2] == (2.0, 0)
    assert read_only.log.count("NUMBA_CACHE_DIR") == 1


def test_without_a_home_code_lies_in_a_private_folder_of_the_temporary_ones(read_only, tmp_path):
    nowhere, temporary = tmp_path / "nowhere", tmp_path / "tmp"
    nowhere.touch()
    temporary.mkdir()
    environment = {"HOME": str(nowhere), "XDG_CACHE_HOME": str(nowhere)}
    environment |= {"TEMPORARY": str(temporary)}
    value, hits, folder = read_only.run(**environment)
    assert (value, hits) == (2.0, 0)
    (private,) = temporary.iterdir()
    assert Path(folder).parent == private
    assert private.stat().st_mode & 0o777 == 0o700
    assert read_only.run(**environment)[:2] == (2.0, 1)


def test_damaged_code_is_compiled_again(package):
    package.run()
    for path in package.folder.glob("__pycache__/*.nbc"):
        path.write_bytes(path.read_bytes()[:-100])
    assert package.run()[:2] == (2.0, 0)
    assert package.run()[:2] == (2.0, 1)


def test_kernels_take_nothing_from_files_whose_changes_would_go_unseen():
    """Every name that a kernel uses from another of our files comes from one with kernels."""
    trees = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): ast.parse(text)
        for path in PACKAGE.rglob("*.py")
        if "refdepth.compiled" in (text := path.read_text())
    }
    unseen = [
        f"{module}: {use.id}"
        for module, tree in trees.items()
        for use in ast.walk(ast.Module([*_kernel_bodies(tree)], []))
        if isinstance(use, ast.Name) and _origin(tree, use.id) not in {None, *trees}
    ]
    assert unseen == []


def _kernel_bodies(tree):
    """The statements of all functions under one of the decorators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(
            "kernel" in ast.unparse(decorator) for decorator in node.decorator_list
        ):
            yield from node.body


def _origin(tree, name):
    """The module of ours that `name` is imported from, None for any other name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("refdepth"):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return node.module
    return None
