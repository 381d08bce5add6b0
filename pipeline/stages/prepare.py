"""Stage `prepare`: photos of any kind become upright 8-bit RGB pictures, with a table of what was
read, what was skipped and why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from refdepth.errors import InputError
from refdepth.ingest import (
    Candidate,
    NameTable,
    PreparedPhoto,
    Skipped,
    find_duplicates,
    find_photos,
    prepare_photo,
    safe_stems,
)
from refdepth.ingest.masks import SUFFIXES as MASK_SUFFIXES
from refdepth.ingest.masks import prepare_mask
from refdepth.pipeline.config import RunConfig, RunRequest
from refdepth.pipeline.files import (
    discard,
    hash_json,
    read_json,
    read_sealed,
    write_json,
    write_sealed,
)
from refdepth.pipeline.items import safe_name
from refdepth.pipeline.manifest import FileRecord
from refdepth.pipeline.stage import Brief, StageContext, StageOutcome
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

TABLE = "table.json"
IMAGES = "images"
MASKS = "masks"
RECORDS = "records"
MAX_NAMED = 5
"""Masks that belong to no photo are named up to this number."""
_SECONDS, _BYTES = 0.1, 40
"""Of a core, for a megabyte of a photo's file, and memory for each byte."""
MIN_PHOTOS = 2
"""Fewer photos have no second view to be measured against."""


class PrepareStage:
    """Photos, videos and masks in; pictures that every later stage can read out."""

    name = "prepare"
    version = 2
    upstream: tuple[str, ...] = ()

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The prepare settings."""
        return config.prepare.result_fields()

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """Names and contents of all photos and masks. A file that cannot be read counts by name;
        the stage will skip it and say so."""
        candidates = _candidates(workspace, request)
        photos = [[found.original, _content_hash(workspace, found.path)] for found in candidates]
        identity: dict[str, Any] = {"photos": hash_json(photos)}
        masks = request.inputs.path("masks")
        if masks is not None:
            identity["masks"] = workspace.folder_hash(masks)
        return identity

    def selection(self, request: RunRequest) -> Mapping[str, Any]:
        """None: all of it is made."""
        return {}

    def progress_of(
        self, workspace: Workspace, request: RunRequest, fingerprint: str
    ) -> tuple[int, int] | None:
        """Records are tied to each photo's own content; a count would need to read them all."""
        return None

    def run(self, context: StageContext) -> StageOutcome:
        """Prepares every photo that is not prepared yet."""
        images = Path(context.given.images)
        findings = find_photos(images, exclude=context.workspace.root)
        work = _Work(context)
        skipped = list(findings.skipped)
        originals = [found.original for found in findings.candidates]
        stems = safe_stems(originals)
        read = context.perform(
            "reading photos",
            ReadPhotos(
                brief=context.brief,
                cost=_cost(findings.candidates),
                candidates={found.original: found for found in findings.candidates},
                keys={
                    found.original: _key(context.workspace, context.config, found)
                    for found in findings.candidates
                },
                stems=stems,
            ),
            originals,
        )
        rows = [row for name in originals for row in read[name].photos]
        skipped += [
            Skipped(original=name, reason=read[name].refused)
            for name in originals
            if read[name].refused
        ]
        rows, twins = _without_duplicates(rows)
        skipped += twins
        rows, notes = work.attach_masks(rows)
        if len(rows) < MIN_PHOTOS:
            raise InputError(
                _too_few(len(rows), len(findings.candidates), skipped),
                subject=images,
                action="Give a folder with at least two overlapping photos (JPEG, PNG, TIFF,"
                " WebP, HEIC) or a video.",
            )
        files = work.keep_only(rows)
        table = context.folder / TABLE
        write_json(
            table,
            {
                "photos": [row.to_dict() for row in rows],
                "skipped": [{"original": skip.original, "reason": skip.reason} for skip in skipped],
            },
        )
        return _outcome([table, *files], rows, skipped, notes)


class _Work:
    """Where prepared pictures and their records lie."""

    def __init__(self, context: StageContext) -> None:
        self.context = context
        self.images = context.folder / IMAGES
        self.masks = context.folder / MASKS
        self.records = context.folder / RECORDS
        for folder in (self.images, self.masks, self.records):
            folder.mkdir(exist_ok=True)
            for stray in [path for path in folder.iterdir() if path.is_dir()]:
                discard(stray)

    def attach_masks(self, rows: Sequence[PreparedPhoto]) -> tuple[list[PreparedPhoto], list[str]]:
        """Brings the user's masks into the grid of the prepared photos, and what a user should know
        about masks without a photo. A mask from the photo's own transparency stays in force."""
        folder = self.context.given.path("masks")
        if folder is None:
            return list(rows), []
        found = NameTable.of(rows).files(folder, MASK_SUFFIXES)
        masked = []
        for row in rows:
            if row.name in found.files:
                name = f"{row.name}.png"
                if row.mask is None:
                    (self.masks / name).unlink(missing_ok=True)
                made = prepare_mask(found.files[row.name], row, self.masks)
                notes = () if made.warning is None else (made.warning,)
                row = replace(row, mask=name, warnings=(*row.warnings, *notes))
            masked.append(row)
        if rows and all(row.mask is None for row in masked):
            raise InputError(
                "holds no mask for any of the photos.",
                subject=folder,
                action=f"Name masks after their photos, like {rows[0].original}.png.",
            )
        return masked, _strangers(found.strangers)

    def keep_only(self, rows: Sequence[PreparedPhoto]) -> list[Path]:
        """Removes pictures and masks that belong to no row; returns those that do."""
        files = _files(self.context.folder, rows)
        keep = set(files)
        for folder in (self.images, self.masks):
            for path in folder.iterdir():
                if path not in keep:
                    path.unlink(missing_ok=True)
        return files


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
            files = _files(self.brief.folder, rows)
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
            return [
                prepare_photo(
                    found.path,
                    images / stem,
                    settings,
                    original=found.original,
                    mask_folder=self.brief.folder / MASKS,
                )
            ]
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


def _files(folder: Path, rows: Sequence[PreparedPhoto]) -> list[Path]:
    return [folder / IMAGES / row.name for row in rows] + [
        folder / MASKS / row.mask for row in rows if row.mask is not None
    ]


def _key(workspace: Workspace, config: RunConfig, found: Candidate) -> str:
    return hash_json(
        [
            PrepareStage.version,
            config.prepare.result_fields(),
            found.original,
            found.kind,
            _content_hash(workspace, found.path),
        ]
    )


def _cost(candidates: Sequence[Candidate]) -> Cost:
    """Of a photo of middling size, by its file: what it holds is only known when it is read."""
    sizes = sorted(_size(found.path) for found in candidates)
    size = sizes[len(sizes) // 2] if sizes else 0
    return Cost(seconds=_SECONDS * size / 1e6, bytes=_BYTES * size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_table(workspace: Workspace) -> list[PreparedPhoto]:
    """The prepared photos of a workspace. Raises `InputError` when the table cannot be read."""
    path = workspace.stage_dir(PrepareStage.name) / TABLE
    stored = read_json(path)
    try:
        photos = [PreparedPhoto.from_dict(row) for row in stored["photos"]]  # type: ignore[index]
        for photo in photos:
            safe_name(photo.name)
        return photos
    except (TypeError, KeyError) as error:
        raise InputError(
            "cannot be read.", subject=path, action="Run `refdepth stage prepare`."
        ) from error


def _candidates(workspace: Workspace, request: RunRequest) -> tuple[Candidate, ...]:
    return find_photos(Path(request.inputs.images), exclude=workspace.root).candidates


def _content_hash(workspace: Workspace, path: Path) -> str:
    try:
        return workspace.content_hash(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _without_duplicates(
    rows: Sequence[PreparedPhoto],
) -> tuple[list[PreparedPhoto], list[Skipped]]:
    twins = find_duplicates(rows)
    originals = {row.name: row.original for row in rows}
    skipped = [
        Skipped(original=originals[name], reason=f"the same picture as {originals[twin]}")
        for name, twin in twins.items()
    ]
    return [row for row in rows if row.name not in twins], skipped


def _too_few(usable: int, found: int, skipped: Sequence[Skipped]) -> str:
    if not found and not skipped:
        return "holds no photos."
    counted = {0: "no usable photo", 1: "only one usable photo"}[usable]
    reasons = "; ".join(f"{skip.original}: {skip.reason}" for skip in skipped[:3])
    return f"holds {counted}" + (f" ({reasons})." if reasons else ".")


def _strangers(masks: Sequence[str]) -> list[str]:
    if not masks:
        return []
    more = f" and {len(masks) - MAX_NAMED} more" if len(masks) > MAX_NAMED else ""
    what = "1 mask is" if len(masks) == 1 else f"{len(masks)} masks are"
    return [f"{what} named like no photo that is used: {', '.join(masks[:MAX_NAMED])}{more}"]


def _outcome(
    files: Sequence[Path],
    rows: Sequence[PreparedPhoto],
    skipped: Sequence[Skipped],
    notes: Sequence[str],
) -> StageOutcome:
    sizes = {(row.width, row.height) for row in rows}
    width, height = max(sizes)
    headline = f"{len(rows)} photos, {'up to ' if len(sizes) > 1 else ''}{width}x{height}"
    if skipped:
        headline += f", {len(skipped)} skipped"
    return StageOutcome(
        files=files,
        summary={
            "photos": len(rows),
            "skipped": [{"original": s.original, "reason": s.reason} for s in skipped],
            "masks": sum(row.mask is not None for row in rows),
        },
        headline=headline,
        warnings=[
            *(f"skipped {skip.original}: {skip.reason}" for skip in skipped),
            *(f"{row.original}: {note}" for row in rows for note in row.warnings),
            *notes,
        ],
    )
