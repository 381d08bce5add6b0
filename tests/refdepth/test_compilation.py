"""Kernels compiled ahead: the list names what a run calls, each is compiled once, and a run that
follows compiles nothing."""

import importlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from refdepth import compilation, kernel_cache
from refdepth.compilation import compile_kernel, known_kernels, uncompiled
from refdepth.signature_text import parse_signature, signature_text

ROOT = Path(__file__).parents[2]
SMALL = "refdepth.matching.aggregation:pick_minimum(float32[:,:,::1], float32[:,::1])"
SEEN = """
import json, sys
import numba.core.event as event
from refdepth.compilation import compile_kernel, uncompiled

class Compiled(event.Listener):
    names = []
    def on_start(self, happened):
        function = happened.data["dispatcher"].py_func
        self.names.append(f"{function.__module__}:{function.__name__}")
    def on_end(self, happened):
        pass

compiled = Compiled()
event.register("numba:compile", compiled)
seconds = [compile_kernel(kernel) for kernel in sys.argv[1:]]
print(json.dumps([seconds, [name for name in compiled.names if name[:8] == "refdepth"]]))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A new folder for compiled code, in this process."""
    monkeypatch.setattr(kernel_cache, "kernels_folder", lambda: tmp_path)
    return tmp_path


def process(folder: Path, *kernels: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SEEN, *kernels],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def ended(started: subprocess.Popen) -> tuple[list[float], list[str]]:
    said, _ = started.communicate(timeout=250)
    assert started.returncode == 0
    return json.loads(said)


def compile_elsewhere(kernel: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has another process compile; this one finds the code where that kept it."""
    ended(process(folder, kernel))
    (kept,) = folder.iterdir()
    monkeypatch.setattr(kernel_cache, "kernels_folder", lambda: kept)


def test_every_line_names_a_kernel_and_argument_types_that_fit_it():
    assert len(set(known_kernels())) == len(known_kernels()) > 10
    for line in known_kernels():
        module, name, arguments = compilation._parts(line)
        types = parse_signature(arguments)
        assert signature_text(types) == arguments
        kernel = getattr(importlib.import_module(module), name)
        assert len(kernel.py_func.__annotations__ or types) >= len(types)
        assert kernel.py_func.__code__.co_argcount == len(types), line


def test_the_kernel_that_takes_longest_comes_first():
    lines = compilation.SIGNATURES.read_text().splitlines()
    seconds = [float(line.split()[0]) for line in lines if line[0] != "#"]
    assert seconds == sorted(seconds, reverse=True)
    assert len(seconds) == len(known_kernels())


def test_the_list_names_all_that_a_run_calls():
    """`make kernel-signatures` after a kernel or its arguments have changed."""
    done = subprocess.run(
        [sys.executable, "benchmarks/kernel_signatures.py", "--used"],
        stdout=subprocess.PIPE,
        check=True,
        cwd=ROOT,
    )
    used = set(json.loads(done.stdout.splitlines()[-1]))
    assert len(used) > 10
    assert used - set(known_kernels()) == set()


def test_what_one_process_compiles_the_next_one_loads(tmp_path):
    _, first = ended(process(tmp_path, SMALL))
    seconds, second = ended(process(tmp_path, SMALL))
    assert first == [SMALL.partition("(")[0]]
    assert second == []
    assert seconds[0] < 0.1


def test_two_processes_at_one_kernel_compile_it_once(tmp_path):
    both = [process(tmp_path, SMALL) for _ in range(2)]
    compiled = [name for one in both for name in ended(one)[1]]
    assert compiled == [SMALL.partition("(")[0]]


def test_what_is_compiled_is_told_without_loading_it(folder, monkeypatch):
    monkeypatch.setattr(compilation, "known_kernels", lambda: (SMALL,))
    assert uncompiled() == (SMALL,)
    compile_elsewhere(SMALL, folder, monkeypatch)
    (code,) = kernel_cache.kernels_folder().glob("*.nbc")
    monkeypatch.setattr(kernel_cache, "_read", None)  # fails when it is called
    assert uncompiled() == ()
    code.unlink()
    assert uncompiled() == (SMALL,)


def test_a_kernel_that_calls_it_finds_the_code_of_the_list(folder, monkeypatch):
    """The name that the list gives is the one that a call gives."""
    import numpy as np

    from refdepth.compiled import kernel
    from refdepth.matching import aggregation

    compile_elsewhere(SMALL, folder, monkeypatch)
    again = kernel(aggregation.pick_minimum.py_func)
    again(np.ones((2, 2, 3), np.float32), np.zeros((2, 2), np.float32))
    assert sum(again.stats.cache_hits.values()) == 1


def test_nothing_is_compiled_ahead_where_nothing_can_be_kept(monkeypatch):
    monkeypatch.setattr(kernel_cache, "kernels_folder", lambda: None)
    assert uncompiled() == ()


@pytest.mark.parametrize(
    "line",
    [
        "refdepth.no_such_module:f(int64)",
        "refdepth.matching.propagation_kernels:no_such_kernel(int64)",
        "refdepth.matching.aggregation:pick_minimum(int64, int64)",
    ],
)
def test_a_line_that_fits_nothing_any_more_is_logged_and_passed_over(folder, caplog, line):
    compile_kernel(line)
    assert line in caplog.text
    assert list(folder.glob("*.nbc")) == []


@pytest.mark.parametrize("line", ["", "f(int64)", "a:b", "a:b(unknown)"])
def test_what_is_no_line_is_refused(folder, line):
    with pytest.raises(ValueError, match="is not"):
        compile_kernel(line)


def held(path: str) -> None:
    with Path(path).open("ab") as file:
        compilation._wait_for_lock(file.fileno(), 7)
        Path(path + ".held").touch()
        time.sleep(0.6)


def test_a_lock_is_waited_for_and_given_up_in_the_end(tmp_path, monkeypatch):
    path = str(tmp_path / "lock")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        other = pool.submit(held, path)
        while not Path(path + ".held").exists():
            assert not other.done()
            time.sleep(0.01)
        with Path(path).open("ab") as file:
            compilation._wait_for_lock(file.fileno(), 8)  # another kernel's
            assert not other.done()
            monkeypatch.setattr(compilation, "_PATIENCE_S", 0.0)
            compilation._wait_for_lock(file.fileno(), 7)
            assert not other.done()
            monkeypatch.setattr(compilation, "_PATIENCE_S", 60.0)
            compilation._wait_for_lock(file.fileno(), 7)
        other.result()
