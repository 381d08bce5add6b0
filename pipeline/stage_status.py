"""How stages stand in a workspace, and which of them a run has to make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.spare import reads
from refdepth.pipeline.stage import Stage

OTHER_VERSION = "made by another version of the stage"


class StageState(StrEnum):
    """How a stage's artifacts stand."""

    DONE = "done"
    CLEANED = "cleaned"
    """Done, and without files that later stages no longer need."""
    STALE = "stale"
    DAMAGED = "damaged"
    PARTIAL = "partial"
    MISSING = "missing"


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """A stage as it lies in a workspace."""

    name: str
    state: StageState
    why: str
    """What makes it necessary to run it, or what was dropped of it; empty when it is done."""
    fingerprint: str
    """Empty where it is not known before the stage runs."""
    item_fingerprint: str
    inputs: Mapping[str, Any]
    manifest: Manifest | None
    """Without its files."""
    items: tuple[int, int] | None = None
    """Finished and all items of a partial stage."""
    bytes: int = 0
    """Of all files in the stage's folder."""

    @property
    def is_valid(self) -> bool:
        """Whether its result is what the present inputs and settings give."""
        return self.state in (StageState.DONE, StageState.CLEANED)

    def serves(self, reader: str) -> bool:
        """Whether all is there that the stage `reader` reads of it."""
        dropped = self.manifest.dropped if self.manifest is not None else ()
        return self.is_valid and not reads(reader, dropped)


def to_make(statuses: Iterable[StageStatus], asked: Collection[str] = ()) -> set[str]:
    """Names of the stages that a run makes, of all stages in order: those that are not valid or are
    `asked` for, and cleaned ones of which one of these reads what is dropped."""
    ordered = list(statuses)
    making = {s.name for s in ordered if not s.is_valid} | set(asked)
    for status in reversed(ordered):
        if any(not status.serves(reader) for reader in making - {status.name}):
            making.add(status.name)
    return making


def undecided(stage: Stage, manifest: Manifest | None, what: str, size: int) -> StageStatus:
    """The status of a stage whose fingerprint is not known before it runs."""
    if manifest is None:
        what = f"not made yet; {what}"
    elif manifest.version != stage.version:
        what = f"{OTHER_VERSION}; {what}"
    return StageStatus(
        name=stage.name,
        state=StageState.MISSING if manifest is None else StageState.STALE,
        why=what,
        fingerprint="",
        item_fingerprint="",
        inputs={},
        manifest=manifest and manifest.without_files,
        bytes=size,
    )


def difference(
    stage: Stage, manifest: Manifest, settings: Mapping[str, Any], inputs: Mapping[str, Any]
) -> str:
    """What has changed since the manifest was written."""
    if manifest.version != stage.version:
        return OTHER_VERSION
    changed = [
        f"{stage.name}.{name} is {new}, was {old}" if len(f"{new}{old}") < 60 else name
        for name, old, new in _changes(manifest.settings, settings)
    ]
    changed += [
        f"{name} has changed"
        for name in dict.fromkeys((*inputs, *manifest.inputs))
        if manifest.inputs.get(name) != inputs.get(name)
    ]
    return "; ".join(changed[:3]) or "made from other inputs"


def _changes(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    rows: list[tuple[str, Any, Any]] = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            rows += _changes(a, b, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", a, b))
    return rows
