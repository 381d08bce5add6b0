"""Small reconstructions that are broken on purpose, and what must be true of them afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SERVER = Path(__file__).with_name("fault_server.py")
NEVER_COMPARED = ("report.html", "refdepth.log", ".refdepth.lock", ".hashes.json")
TIMES = ("seconds", "mtime_ns", "peak_memory_mb", "sha256_of_content")
STAGES = ("prepare", "sfm", "depth", "scale", "refine", "fuse")


@dataclass(frozen=True, kw_only=True)
class Photos:
    """A few tiny photos of a synthetic room, with a COLMAP model of them."""

    images: Path
    model: Path

    def command(self, out: Path, *more: str) -> list[str]:
        """The command line that reconstructs them, SfM taken from the model."""
        options = ["--model", str(self.model), "--depth-model", "sweep", "--quality", "fast"]
        runtime = ["--renderer", "cpu", "--device", "cpu"]
        settings = [
            "refine.iterations=6",
            "refine.search.steps=9",
        ]
        pairs = [part for value in settings for part in ("--set", value)]
        return ["reconstruct", str(self.images), str(out), *options, *runtime, *pairs, *more]

    def from_photos(self, out: Path, *more: str) -> list[str]:
        """The command line that reconstructs them from photos alone."""
        command = self.command(out, *more)
        at = command.index("--model")
        return command[:at] + command[at + 2 :]


def make_photos(folder: Path, *, views: int = 4, width: int = 64, height: int = 48) -> Photos:
    """Photographs the room into `folder`."""
    from refdepth.io.colmap import to_reconstruction
    from refdepth.synthetic import make_scene

    photos = Photos(images=folder / "photos", model=folder / "model")
    photos.model.mkdir(parents=True)
    scene = make_scene(views=views, width=width, height=height)
    to_reconstruction(scene.to_scene(photos.images, points_per_view=150)).write(str(photos.model))
    return photos


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended."""

    code: int
    """Exit code; negative: the signal that ended it."""
    said: str
    seconds: float


class Runner:
    """Runs commands in forks of one process that has everything imported."""

    def __init__(self, folder: Path) -> None:
        self._output = folder / "said.txt"
        self._server = subprocess.Popen(
            [sys.executable, str(SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self._pid = 0  # of the command that has been started and not waited for

    def start(self, arguments: list[str], **job: Any) -> int:
        """Starts a command; returns its pid."""
        assert self._server.stdin is not None
        self._end_what_is_left()
        self._output.unlink(missing_ok=True)
        job |= {"arguments": arguments, "output": str(self._output)}
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        self._started = time.monotonic()
        self._pid = self._answer("started")
        return self._pid

    def said(self) -> str:
        """What the running command has printed so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def running(self) -> bool:
        """Whether the started command is still at work."""
        time.sleep(0.02)
        return Path(f"/proc/{self._pid}").exists()

    def wait(self) -> Ended:
        """Waits for the started command."""
        code = self._answer("ended")
        self._pid = 0
        seconds = time.monotonic() - self._started
        return Ended(code=code, said=self.said(), seconds=seconds)

    def run(self, arguments: list[str], **job: Any) -> Ended:
        """Runs a command to its end."""
        self.start(arguments, **job)
        return self.wait()

    def kill_after(self, seconds: float, arguments: list[str]) -> Ended:
        """Starts a command and kills it after so long, unless it has ended before."""
        pid = self.start(arguments)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self.wait()

    def close(self) -> None:
        """Ends the server, and what still runs."""
        self._end_what_is_left()
        self._server.kill()
        self._server.wait()

    def _end_what_is_left(self) -> None:
        """The command that a failed test has not waited for. The server, which would wait for it,
        has not collected it, so the pid is its own."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self.wait()

    def _answer(self, kind: str) -> int:
        assert self._server.stdout is not None
        found, _, number = self._server.stdout.readline().partition(" ")
        if found != kind:
            raise RuntimeError("the server of the fault runs has ended")
        return int(number)


def result(root: Path) -> dict[str, Any]:
    """What a workspace holds, without times: file name to its hash, or to its content for JSON.

    The hash of a record, which holds times, is left out of the manifest that names it.
    """
    found: dict[str, Any] = {}
    for path in _under_final_names(root):
        name = path.relative_to(root).as_posix()
        if path.name in NEVER_COMPARED:
            continue
        if path.suffix == ".json":
            content = _timeless(json.loads(path.read_text()))
            if path.name == "manifest.json":
                for file, record in content["files"].items():
                    if file.endswith(".json"):
                        record.clear()
            found[name] = content
        elif path.suffix != ".db":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def difference(ours: dict[str, Any], reference: dict[str, Any]) -> list[str]:
    """Names of files that differ or that only one of two results has."""
    return sorted(
        name for name in {*ours, *reference} if ours.get(name, ...) != reference.get(name, ...)
    )


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def temporaries(root: Path) -> list[str]:
    """Files that an unfinished write has left."""
    return [p.name for p in root.rglob(".*") if p.name not in NEVER_COMPARED]


def broken(root: Path) -> list[str]:
    """Files that stand under their final name and are not whole."""
    wrong = []
    for path in _under_final_names(root):
        inside = path.relative_to(root).parts
        if inside[0] == "sfm" and not (root / "sfm" / "manifest.json").exists():
            continue  # the stage makes its folder anew until its manifest stands
        if not _is_whole(path):
            wrong.append("/".join(inside))
    return wrong


def _under_final_names(root: Path) -> list[Path]:
    """All files that are not, and do not lie in a folder that is, being written."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [p for p in files if not any(x.startswith(".") for x in p.relative_to(root).parts)]


def _is_whole(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                for name in stored.files:
                    stored[name]
        elif path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".ply":
            return _ply_is_whole(path)
    except (OSError, ValueError, SyntaxError, zipfile.BadZipFile, EOFError, KeyError):
        return False
    return True


def _ply_is_whole(path: Path) -> bool:
    head, separator, body = path.read_bytes().partition(b"end_header\n")
    count = next(int(line.split()[2]) for line in head.splitlines() if line.startswith(b"element"))
    return bool(separator) and count > 0 and len(body) % count == 0


def finished(root: Path) -> dict[Path, tuple[int, int]]:
    """Files of every item that is done, with their time and inode: a file that is written again
    changes both. An item whose record is not yet under its name is not done, nor is a refined view
    that does not have the scene's confidence yet."""
    files: dict[Path, tuple[int, int]] = {}
    for record in root.rglob("[!.]*.json"):
        content = _read(record)
        if not isinstance(content, dict):
            continue
        if "record" in content:
            if record.parent.name == "refine" and "calibration" not in content["record"]:
                continue
            members = [record, *([record.with_suffix(".npz")] if content["file"] else [])]
        elif "photos" in content and "key" in content:
            members = [record, *(root / "prepare" / name for name in content["files"])]
        elif record.name == "manifest.json":
            members = [record, *(record.parent / name for name in content["files"])]
        else:
            continue
        for member in members:
            status = member.stat()
            files[member] = (status.st_mtime_ns, status.st_ino)
    return files


def manifests(root: Path) -> int:
    """How many stages are whole."""
    return sum((root / stage / "manifest.json").exists() for stage in STAGES)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def made_again(
    before: dict[Path, tuple[int, int]], after: dict[Path, tuple[int, int]]
) -> list[str]:
    """Finished files that were written once more, or are gone."""
    return sorted(str(path) for path, mark in before.items() if after.get(path) != mark)
