"""What a finished run can do without: files that serve only to make its stages, once or again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, kw_only=True)
class Spare:
    """One kind of such files."""

    name: str
    """As `refdepth clean --keep` takes it and manifests record it."""
    stage: str
    """Whose they are."""
    patterns: tuple[str, ...]
    """Glob patterns of their paths in the stage's folder."""
    read_by: tuple[str, ...]
    """Later stages that read them: to make one of these again they have to be there."""
    what: str
    """What they hold, in a few words."""

    def holds(self, path: str) -> bool:
        """Whether a path, relative to the stage's folder, is one of these."""
        return any(fnmatchcase(path, pattern) for pattern in self.patterns)


SPARES = (
    Spare(
        name="photos",
        stage="prepare",
        patterns=("images/*", "masks/*"),
        read_by=("sfm",),
        what="photos as upright pictures",
    ),
    Spare(
        name="matches",
        stage="sfm",
        patterns=("database.db*",),
        read_by=(),
        what="features and matches",
    ),
    Spare(
        name="priors",
        stage="depth",
        patterns=("*.npz",),
        read_by=("scale", "refine"),
        what="priors",
    ),
    Spare(
        name="rounds",
        stage="refine",
        patterns=("first/*", "second/*"),
        read_by=(),
        what="both rounds of refinement",
    ),
    Spare(
        name="tiles",
        stage="fuse",
        patterns=("making/*",),
        read_by=(),
        what="what an interrupted fusion has left",
    ),
)
"""In the order of the stages. The final depth, the cloud, the cameras and the undistorted photos
are none of them: they are what exports, evaluation and viewer read."""


def spares_of(stage: str) -> tuple[Spare, ...]:
    """Those of a stage."""
    return tuple(spare for spare in SPARES if spare.stage == stage)


def described(names: Iterable[str]) -> str:
    """Kinds of files, in words."""
    words = {spare.name: spare.what for spare in SPARES}
    return " and ".join(words.get(name, name) for name in names)


def reads(stage: str, dropped: Iterable[str]) -> bool:
    """Whether `stage` reads files of one of the kinds `dropped`; of a kind that nobody knows every
    stage may."""
    readers = {spare.name: spare.read_by for spare in SPARES}
    return any(stage in readers.get(name, (stage,)) for name in dropped)
