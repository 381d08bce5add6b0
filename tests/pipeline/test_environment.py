import os
import subprocess
import sys

import pytest

from refdepth.pipeline.environment import SETTINGS

CODE = "from refdepth.pipeline import environment; environment.prepare_process(); "


def run(code, **variables):
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", CODE + code],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_what_the_user_has_set_stays():
    code = "import os; print(os.environ['OMP_WAIT_POLICY'])"
    assert run(code) == "passive"
    assert run(code, OMP_WAIT_POLICY="active") == "active"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_kept_unless_the_user_manages_it():
    faults = (
        "import numpy as np, resource\n"
        "def fill():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(2): np.empty(15_000_000, np.uint8).fill(1)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "fill(); pair = [np.ones(15_000_000, np.uint8) for _ in range(2)]; del pair\n"
        "print(fill())"
    )
    faults = f"exec({faults!r})"
    if run("print(environment.keep_freed_memory())") != "True":
        pytest.skip("memory is not managed by glibc here")
    assert int(run(faults)) < 100
    own = run("print(environment.keep_freed_memory())", MALLOC_TRIM_THRESHOLD_="1000000")
    assert own == "False"
