"""The work of stage `prepare` on each photo or video: upright 8-bit RGB pictures, and a record of
what they were made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from refdepth.errors import InputError
from refdepth.ingest import Candidate, PreparedPhoto, prepare_picture
from refdepth.pipeline.files import read_sealed, write_json, write_sealed
from refdepth.pipeline.manifest import FileRecord
from refdepth.pipeline.stage import Brief
from refdepth.pipeline.work import Cost, Desk

IMAGES = "images"
MASKS = "masks"
RECORDS = "records"
_SECONDS, _BYTES = 0.1, 40
"""Of a core, for a megabyte of a photo's file, and memory for each byte."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What became of a photo or video."""

    photos: tuple[PreparedPhoto, ...] = ()
    refused: str = ""
    """Why it cannot be used."""


@dataclass(frozen=True, kw_only=True)
class ReadPhotos:
    """The prepared pictures of a photo or video, made now or before."""

    brief: Brief
    cost: Cost
    candidates: Mapping[str, Candidate]
    keys: Mapping[str, str]
    """Hash of all that determines what is made of each."""
    stems: Mapping[str, str]
    """How its pictures are called."""

    def open(self, desk: Desk) -> Callable[[str], Read]:
        """Needs nothing."""

        def make(name: str) -> Read:
            record = self.brief.folder / RECORDS / f"{self.stems[name]}.json"
            known = _known(self.brief.folder, record, self.keys[name])
            if known is not None:
                return Read(photos=tuple(known))
            try:
                rows = self._prepare(name, desk)
            except InputError as error:
                return Read(refused=error.message)
            files = prepared_files(self.brief.folder, rows)
            write_sealed(
                record,
                {
                    "key": self.keys[name],
                    "photos": [row.to_dict() for row in rows],
                    "files": {
                        path.relative_to(self.brief.folder).as_posix(): FileRecord.of(
                            path
                        ).model_dump()
                        for path in files
                    },
                },
            )
            return Read(photos=tuple(rows))

        return make

    def _prepare(self, name: str, desk: Desk) -> list[PreparedPhoto]:
        found, stem = self.candidates[name], self.stems[name]
        images, settings = self.brief.folder / IMAGES, self.brief.config.prepare
        if found.kind != "video":
            return prepare_picture(
                found.path,
                images / stem,
                settings,
                original=found.original,
                mask_folder=self.brief.folder / MASKS,
            )
        from refdepth.ingest.video import prepare_video

        def progress(label: str, done: float, total: float | None) -> None:
            desk.step(done / total if total else 0.0)

        video = prepare_video(
            found.path,
            images / stem,
            settings,
            original=found.original,
            progress=progress,
            cancelled=lambda: desk.cancellation.requested,
        )
        write_json(self.brief.folder / RECORDS / f"{stem}.frames.json", video.to_dict())
        return list(video.frames)


def _known(folder: Path, record: Path, key: str) -> list[PreparedPhoto] | None:
    stored = read_sealed(record)
    if stored is None or stored.get("key") != key:
        return None
    try:
        whole = all(
            FileRecord.model_validate(value).matches(folder / name)
            for name, value in stored["files"].items()
        )
        return [PreparedPhoto.from_dict(row) for row in stored["photos"]] if whole else None
    except (ValidationError, KeyError, TypeError, AttributeError):
        return None


def prepared_files(folder: Path, rows: Sequence[PreparedPhoto]) -> list[Path]:
    """Pictures and masks of `rows` in the stage's folder."""
    return [folder / IMAGES / row.name for row in rows] + [
        folder / MASKS / row.mask for row in rows if row.mask is not None
    ]


def reading_cost(candidates: Sequence[Candidate]) -> Cost:
    """Of a photo of middling size, by its file: what it holds is only known when it is read."""
    sizes = sorted(_size(found.path) for found in candidates)
    size = sizes[len(sizes) // 2] if sizes else 0
    return Cost(seconds=_SECONDS * size / 1e6, bytes=_BYTES * size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
