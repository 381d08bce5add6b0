"""Where the stage `fuse` keeps what it makes on the way, so that a run that was ended goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refdepth.pipeline.files import discard, read_json, read_sealed, write_json, write_sealed
from refdepth.pipeline.items import ItemStore, safe_name
from refdepth.pipeline.manifest import FileRecord, record_files
from refdepth.pipeline.stage import Brief
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from refdepth.fusion import ColourRatio

MAKING = "making"
"""Subfolder of what is gone when the stage is done."""
MADE = "made.json"
"""What a fusion has found, and which files hold its results."""
REDUCED, SWATCHES = "reduced", "swatches"
"""Depth on the grids of fusion, and small pictures of photos, for the neighbours' checks."""


class Making:
    """Files of a fusion that is not finished, each whole or absent. What is there is not made
    again; a mark says under which fingerprint all of it was made."""

    def __init__(self, brief: Brief) -> None:
        self.folder = brief.folder / MAKING
        self._made = brief.folder / MADE
        self._mark = self.folder / "made-under.json"
        self._fingerprint = brief.item_fingerprint
        self.given = self.store("given")
        """Pixels that views give, and claim of others."""
        self.points = self.store("points")
        """Which points lie where in the views' files."""

    def begin(self) -> None:
        """Removes what was made under another fingerprint, or without a mark."""
        if read_json(self._mark) != self._fingerprint:
            self._mark.unlink(missing_ok=True)  # first: a removal may be cut short
            if self.folder.exists():
                shutil.rmtree(self.folder)
            for rounds in self.folder.parent.glob("round-*"):  # of a version without this folder
                discard(rounds)
            self.folder.mkdir()
            write_json(self._mark, self._fingerprint)
        for name in ("checks", "points", "tiles"):
            (self.folder / name).mkdir(exist_ok=True)

    def finished(self) -> dict[str, Any] | None:
        """What `finish` was given under the same fingerprint, where the results are still whole: a
        kill between the end of a fusion and its manifest costs nothing."""
        stored = read_sealed(self._made)
        if stored is None or stored.get("fingerprint") != self._fingerprint:
            return None
        records = {n: FileRecord.model_validate(file) for n, file in stored["files"].items()}
        whole = all(file.matches(self._made.parent / name) for name, file in records.items())
        facts: dict[str, Any] = stored["facts"]
        return facts if whole else None

    def finish(self, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
        """Notes that the results, `files`, are whole, and what else the stage has to say."""
        records = record_files(self._made.parent, files)
        plain = {name: record.model_dump() for name, record in records.items()}
        write_sealed(
            self._made, {"fingerprint": self._fingerprint, "files": plain, "facts": dict(facts)}
        )

    def end(self) -> None:
        """Removes what was made on the way."""
        self._mark.unlink(missing_ok=True)
        discard(self.folder)

    def store(self, subfolder: str) -> ItemStore:
        """Arrays of views in a subfolder."""
        return ItemStore(self.folder / subfolder, "")

    def after(self, turn: int) -> ItemStore:
        """The depth after a round of consensus, of the last one who has the same surface; 0: what
        the neighbours confirm."""
        return self.store(f"round-{turn}")

    def once(
        self, subfolder: str, name: str, make: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """The arrays of a view that `make` returns, kept for whoever else asks for them."""
        store = self.store(subfolder)
        if not store.arrays_path(name).exists():
            store.write_arrays(name, make())
        return store.arrays(name)

    def check(self, name: str) -> Path:
        """What a view's check has handed back."""
        return self.folder / "checks" / f"{safe_name(name)}.json"

    def rows(self, name: str) -> Path:
        """A view's points."""
        return self.folder / "points" / f"{safe_name(name)}.rows"

    def tile(self, name: str) -> Path:
        """The cloud of a tile."""
        return self.folder / "tiles" / f"{name}.ply"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What is handed back of a view that is checked."""

    colours: list[ColourRatio]
    """How it compares with its neighbours."""
    pixel_width: float

    def write(self, path: Path) -> None:
        """Stores it; a width that is infinite as null."""
        width = self.pixel_width if np.isfinite(self.pixel_width) else None
        write_json(path, {"pixel_width": width, "colours": [asdict(c) for c in self.colours]})

    @classmethod
    def read(cls, path: Path) -> Checked | None:
        """What `write` has stored; None where that is nothing."""
        from refdepth.fusion import ColourRatio

        stored = read_json(path)
        if not isinstance(stored, dict):
            return None
        width = np.inf if stored["pixel_width"] is None else stored["pixel_width"]
        colours = [
            ColourRatio(**{**ratio, "log_ratio": tuple(ratio["log_ratio"])})
            for ratio in stored["colours"]
        ]
        return cls(colours=colours, pixel_width=float(width))


def stored_depth(items: ItemStore, name: str) -> DepthMap:
    """A view's depth in one of the stores."""
    arrays = items.arrays(name)
    return DepthMap(depth=arrays["depth"], confidence=arrays["confidence"])


def mask_of(given: ItemStore, name: str, of: str, scene: Scene) -> NDArray[np.bool_]:
    """Pixels of view `of` (height, width) that are given with what view `name` gives."""
    height, width = scene[of].camera.shape
    packed = given.arrays(name)[of]
    return np.unpackbits(packed, count=height * width).reshape(height, width) > 0
