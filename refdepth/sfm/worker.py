"""The child process behind `refdepth.sfm.native.run_step`.

Reads one JSON job from standard input, answers with JSON lines on standard output: progress, then a
result or an error. Ends when the parent does: two at work on one database would spoil it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
from typing import IO, Any

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs the job given on standard input."""
    with contextlib.suppress(OSError, AttributeError):  # Linux only; elsewhere the pipe must do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints must not mix with the answers
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def report(done: float, total: float | None) -> None:
        _send(out, {"progress": [done, total]})

    try:
        from refdepth._pycolmap import pycolmap
        from refdepth.sfm import native_calls

        pycolmap.logging.logtostderr = True
        result = getattr(native_calls, job["step"])(report=report, **job["arguments"])
    except Exception as error:
        _send(out, {"error": f"{type(error).__name__}: {error}"})
    else:
        _send(out, {"result": result})


def _send(out: IO[str], event: dict[str, Any]) -> None:
    out.write(json.dumps(event) + "\n")
    out.flush()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
