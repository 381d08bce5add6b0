"""`refdepth view`: a taken port, and a server that ends with Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run

pytest.importorskip("viser")


def test_a_taken_port_is_refused_with_another_proposed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run(["view", str(finished), "--port", str(port)]) == ExitCode.RESOURCE
    assert f"--port {port + 1}" in capsys.readouterr().err


def test_a_missing_viser_is_named(
    finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert run(["view", str(finished)]) == ExitCode.UNAVAILABLE
    assert "refdepth[view]" in capsys.readouterr().err


def test_it_serves_a_page_until_it_is_interrupted(finished: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "refdepth.cli.main", "view", str(finished), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        assert f"http://localhost:{port}" in process.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
            assert b"<html" in page.read().lower()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == ExitCode.DONE
        assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
    finally:
        process.kill()
        process.wait()
