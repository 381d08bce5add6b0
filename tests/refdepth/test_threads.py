"""The threading layer is chosen, not found; threads can be limited."""

import json
import os
import subprocess
import sys

import numba
import pytest

from refdepth.threads import Threading, threading, use_threads

REPORT = """
import json, sys, numba.np.ufunc.parallel as parallel
looked = []
def look():
    looked.append("tbb")
    raise ImportError("as where there is none")
parallel._check_tbb_version_compatible = look
{before}
import refdepth.compiled
from refdepth.errors import UnavailableError
from refdepth.threads import threading, use_threads
started = parallel._is_initialized
try:
    found = threading()
    said = [found.layer, found.why, found.threads]
except UnavailableError as error:
    said = [str(error), "", 0]
{after}
print(json.dumps([*said, looked, started]))
"""


def report(before: str = "", after: str = "", **variables: str) -> list:
    kept = {name: value for name, value in os.environ.items() if "NUMBA" not in name}
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(before=before, after=after)],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NumbaWarning" not in done.stderr
    return json.loads(done.stdout)


def test_openmp_is_chosen_and_tbb_is_not_looked_for():
    layer, why, threads, looked, started = report(NUMBA_NUM_THREADS="3")
    assert (layer, why, threads, looked) == ("omp", "chosen", 3, [])
    assert not started


def test_what_the_user_sets_stays():
    order = {"NUMBA_THREADING_LAYER_PRIORITY": "tbb workqueue omp"}
    layer, why, *_, looked, _ = report(**order)
    assert (layer, looked) == ("workqueue", ["tbb"])
    assert why == "set by NUMBA_THREADING_LAYER_PRIORITY"
    layer, why, *_ = report(NUMBA_THREADING_LAYER="workqueue")
    assert (layer, why) == ("workqueue", "set by NUMBA_THREADING_LAYER")


def test_what_the_program_sets_stays():
    layer, why, *_ = report("import numba; numba.config.THREADING_LAYER = 'workqueue'")
    assert (layer, why) == ("workqueue", "set by numba.config.THREADING_LAYER")


def test_without_openmp_numbas_own_is_taken():
    layer, why, _, looked, _ = report("sys.modules['numba.np.ufunc.omppool'] = None")
    assert (layer, why, looked) == ("workqueue", "no OpenMP here", [])


def test_threads_that_run_already_are_told():
    before = "import numba; numba.config.THREADING_LAYER = 'workqueue'; numba.get_num_threads()"
    assert report(before)[:2] == ["workqueue", "started before refdepth was imported"]


def test_a_choice_that_is_not_there_is_refused_with_its_name():
    (said, *_) = report(NUMBA_THREADING_LAYER="tbb")
    assert "NUMBA_THREADING_LAYER" in said
    assert "No threading layer could be loaded" in said


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_no_more_threads_are_used_than_numba_was_started_with(asked, given):
    after = (
        f"import torch; used = use_threads({asked}); found = threading(); "
        "said = [used, found.threads, torch.get_num_threads()]"
    )
    assert report(after=after, NUMBA_NUM_THREADS="3")[:3] == [given] * 3


def test_torch_is_not_imported_for_it():
    after = "use_threads(1); said = ['torch' in sys.modules, 0, 0]"
    assert report(after=after)[0] is False


def test_fewer_than_one_thread_is_refused():
    before = numba.get_num_threads()
    with pytest.raises(ValueError, match="not 0"):
        use_threads(0)
    assert numba.get_num_threads() == before


def test_it_is_said_in_words():
    assert str(threading()).endswith(f"{numba.get_num_threads()} threads")
    assert str(Threading(layer="omp", why="chosen", threads=1)) == "OpenMP (chosen), 1 thread"
