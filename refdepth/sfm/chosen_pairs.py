"""The pairs that a plan leads to, looked for once and kept beside the database."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from refdepth.errors import InputError, StageError
from refdepth.sfm.database import match_mark
from refdepth.sfm.native import Cancelled, Progress, run_step
from refdepth.sfm.pairs import Pair, PairPlan
from refdepth.sfm.settings import SfmSettings


def choose_pairs(
    database: Path,
    plan: PairPlan,
    settings: SfmSettings,
    *,
    seed: int,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> list[Pair]:
    """All pairs of photos to match. Where photos that look alike are part of them, `database` holds
    the features of all, and the list is kept in `alike.json` beside it for as long as what
    determines it is the same."""
    if not plan.alike:
        return list(plan.known)
    path, mark = database.with_name("alike.json"), match_mark(database)
    ranked = _read(path, mark)
    if ranked is None:
        with tempfile.TemporaryDirectory(prefix=".tmp-alike-", dir=database.parent) as folder:
            ranked = run_step(
                "rank_alike",
                label="finding photos that look alike",
                total=2 * len(plan.alike),  # each is entered, then looked for
                database=database,
                vocabulary=settings.vocabulary,
                folder=folder,
                count=plan.most_asked,
                seed=seed,
                progress=progress,
                cancelled=cancelled,
            )
            partial = Path(folder) / path.name
            partial.write_text(json.dumps({"mark": mark, "alike": ranked}))
            partial.replace(path)
    return plan.pairs(ranked)


def check_vocabulary(settings: SfmSettings) -> str:
    """Content hash of `settings.vocabulary`, empty where there is none. Raises `InputError` where
    it is no vocabulary for SIFT."""
    if settings.vocabulary is None:
        return ""
    path = Path(settings.vocabulary)
    action = (
        "Give a vocabulary tree for SIFT in the format of COLMAP 3.12 or newer, or leave "
        "sfm.vocabulary out: then one is made from the photos."
    )
    if not path.is_file():
        raise InputError("no such file.", subject=path, action=action)
    try:
        kind = run_step("check_vocabulary", path=path)
    except StageError as error:
        raise InputError(
            "is no vocabulary that can be read.", subject=path, action=action
        ) from error
    if kind != "SIFT":
        raise InputError(f"is a vocabulary of {kind} features.", subject=path, action=action)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, mark: str) -> dict[str, list[str]] | None:
    try:
        stored = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(stored, dict) or stored.get("mark") != mark:
        return None
    ranked = stored.get("alike")
    return ranked if isinstance(ranked, dict) else None
