"""Where a depth network's weights are: a local folder, the hub's cache, or the hub."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refdepth.errors import InputError, UnavailableError

AUTO_MODEL = "depth-anything/Depth-Anything-V2-Small-hf"
"""Depth Anything V2 Small, 25 million parameters, Apache-2.0 weights."""

SWEEP = "sweep"
AUTO = "auto"
LOCAL = "local"
"""What a checkpoint from a folder has for a model: where it lies is not part of what it is."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NEEDED = ("config.json", "preprocessor_config.json")
_FILES = (*_NEEDED, "processor_config.json", "*.safetensors", "*.safetensors.index.json")
_REACH_SECONDS = 3.0


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A depth network's files on this machine."""

    model: str
    """Hub id, or `LOCAL`."""
    revision: str
    """Commit of the hub, or a hash of the local folder's content."""
    folder: Path


def local_folder(model: str) -> Path | None:
    """The folder that `model` names, or None where it names no folder."""
    folder = Path(model).expanduser()
    return folder if model and folder.is_dir() else None


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_checkpoint(
    model: str, revision: str | None = None, *, digest: Callable[[Path], str] = _file_hash
) -> Checkpoint:
    """The files of a checkpoint: `model` is a local folder or a hub id (`owner/name`).

    A hub model comes from the cache where it is complete, else it is downloaded (config and
    safetensors only, never code). `HF_HUB_OFFLINE` is honoured. An unreachable hub is noticed
    within seconds. `digest` gives the SHA-256 of a file in a local folder.

    Raises `InputError` for a folder that is no checkpoint, and for a name that is neither;
    `UnavailableError`, saying how to get the weights, for a hub model that cannot be had.
    """
    cached = cached_checkpoint(model, revision, digest=digest)
    if cached is not None:
        return cached
    found = _download(model, revision)
    return Checkpoint(model=model, revision=found.name, folder=found)


def cached_checkpoint(
    model: str, revision: str | None = None, *, digest: Callable[[Path], str] = _file_hash
) -> Checkpoint | None:
    """As `find_checkpoint`, without a network: None for a hub model whose weights are not all in
    the local cache."""
    folder = local_folder(model)
    if folder is not None:
        return Checkpoint(model=LOCAL, revision=_content_hash(folder, digest), folder=folder)
    if not _HUB_ID.fullmatch(model):
        raise InputError(
            "neither a folder nor a hub id.",
            subject=model,
            action="Give a checkpoint folder, a hub id like owner/name, `sweep` or `auto`.",
        )
    found = _cached(model, revision)
    return None if found is None else Checkpoint(model=model, revision=found.name, folder=found)


def _content_hash(folder: Path, digest: Callable[[Path], str]) -> str:
    """Hash over names and contents of the files that make a checkpoint.

    Raises `InputError` where they are missing or cannot be read.
    """
    files = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
    names = [path.name for path in files]
    for needed in _NEEDED:
        if needed not in names:
            raise InputError(f"no {needed} in this folder.", subject=folder, action=_SAVE)
    if not any(name.endswith(".safetensors") for name in names):
        raise InputError("no .safetensors weights in this folder.", subject=folder, action=_SAVE)
    total = hashlib.sha256()
    for path in files:
        try:
            total.update(f"{path.name} {digest(path)}\n".encode())
        except OSError as error:
            raise InputError(f"cannot be read ({error}).", subject=path) from error
    return f"sha256:{total.hexdigest()}"


_SAVE = "Give a folder written by save_pretrained() of model and image processor."


def _cached(model: str, revision: str | None) -> Path | None:
    """The complete snapshot in the local cache, or None."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            model, revision=revision, allow_patterns=list(_FILES), local_files_only=True
        )
    except Exception:
        # Not in the cache, or only in parts: the several errors for that differ by version.
        return None
    found = Path(str(folder))
    whole = all((found / name).exists() for name in _NEEDED) and _has_all_weights(found)
    return found if whole else None


def _has_all_weights(folder: Path) -> bool:
    """Whether the weights are there, all shards of them (dangling links do not count)."""
    weights = {path.name for path in folder.glob("*.safetensors") if path.exists()}
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(re.findall(r'"([^"/\\]+\.safetensors)"', index.read_text(encoding="utf-8")))
        if not shards <= weights:
            return False
    return bool(weights)


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if constants.HF_HUB_OFFLINE or _is_set("TRANSFORMERS_OFFLINE"):
        raise _unavailable(model, revision, "not in the local cache, and HF_HUB_OFFLINE is set")
    if not _reachable(constants.ENDPOINT):
        raise _unavailable(
            model, revision, f"not in the local cache, and {constants.ENDPOINT} is not reachable"
        )
    try:
        folder = Path(str(snapshot_download(model, revision=revision, allow_patterns=list(_FILES))))
    except GatedRepoError as error:
        raise UnavailableError(
            "the hub asks for consent to this model's licence.",
            subject=model,
            action="Accept it on the model's page, then run `hf auth login`.",
        ) from error
    except RevisionNotFoundError as error:
        raise UnavailableError(
            f"the hub has no revision {revision!r} of it.",
            subject=model,
            action="Correct depth.revision.",
        ) from error
    except RepositoryNotFoundError as error:
        raise UnavailableError(
            "the hub has no such model, or it is private.",
            subject=model,
            action="Correct the name, or run `hf auth login`.",
        ) from error
    except Exception as error:
        raise _unavailable(model, revision, f"the download failed ({error})") from error
    if not _has_all_weights(folder):
        raise UnavailableError(
            "the hub has it without .safetensors weights; other formats are not loaded.",
            subject=model,
            action="Convert it with save_pretrained() and give the folder.",
        )
    return folder


def _unavailable(model: str, revision: str | None, why: str) -> UnavailableError:
    pinned = f" --revision {revision}" if revision else ""
    return UnavailableError(
        f"{why}.",
        subject=model,
        action=f"With a network, run `hf download {model}{pinned}` (copy ~/.cache/huggingface to a "
        "machine without one), give a checkpoint folder, or use --depth-model sweep.",
    )


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}


def _reachable(endpoint: str) -> bool:
    """Whether the hub answers within a few seconds. Name resolution has no time limit of its own,
    so that the question is asked on a thread that may be left behind."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            urllib.request.urlopen(request, timeout=_REACH_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # it answered
        except (OSError, ValueError, http.client.HTTPException):
            return
        answered.set()

    thread = threading.Thread(target=ask, name="hub-reachability", daemon=True)
    thread.start()
    thread.join(_REACH_SECONDS)
    return answered.is_set()
