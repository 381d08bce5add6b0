"""Stage `prepare`: photos of any kind become upright 8-bit RGB pictures, with a table of what was
read, what was skipped and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refdepth.errors import InputError
from refdepth.ingest import (
    Candidate,
    Findings,
    PreparedPhoto,
    Skipped,
    find_duplicates,
    find_photos,
    safe_stems,
)
from refdepth.pipeline.config import RunConfig, RunInputs, RunRequest
from refdepth.pipeline.files import discard, hash_json, read_json, write_json
from refdepth.pipeline.items import safe_name
from refdepth.pipeline.stage import StageContext, StageOutcome
from refdepth.pipeline.stages.masking import attach_masks
from refdepth.pipeline.stages.reading import (
    IMAGES,
    MASKS,
    RECORDS,
    ReadPhotos,
    prepared_files,
    reading_cost,
)
from refdepth.pipeline.workspace import Workspace

TABLE = "table.json"
MIN_PHOTOS = 2
"""Fewer photos have no second view to be measured against."""


class PrepareStage:
    """Photos, videos and masks in; pictures that every later stage can read out."""

    name = "prepare"
    version = 5
    upstream: tuple[str, ...] = ()

    def settings(self, config: RunConfig) -> Mapping[str, Any]:
        """The prepare settings."""
        return config.prepare.result_fields()

    def inputs(
        self, workspace: Workspace, request: RunRequest, *, looking: bool
    ) -> Mapping[str, Any]:
        """Names and contents of all photos and masks. A file that cannot be read counts by name;
        the stage will skip it and say so."""
        candidates = _find(workspace, request.inputs).candidates
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
        findings = _find(context.workspace, context.given)
        _make_folders(context.folder)
        skipped = list(findings.skipped)
        originals = [found.original for found in findings.candidates]
        stems = safe_stems(originals)
        read = context.perform(
            "reading photos",
            ReadPhotos(
                brief=context.brief,
                cost=reading_cost(findings.candidates),
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
        _refuse_namesakes(rows, images)
        skipped += [
            Skipped(original=name, reason=read[name].refused)
            for name in originals
            if read[name].refused
        ]
        rows, twins = _without_duplicates(rows)
        skipped += twins
        rows, notes = attach_masks(context, rows)
        if len({row.given for row in rows}) < MIN_PHOTOS:
            raise InputError(
                _too_few(len({row.given for row in rows}), len(findings.candidates), skipped),
                subject=images,
                action="Give a folder with at least two overlapping photos (JPEG, PNG, TIFF,"
                " WebP, HEIC), two panoramas or a video.",
            )
        files = _keep_only(context.folder, rows)
        table = context.folder / TABLE
        write_json(
            table,
            {
                "photos": [row.to_dict() for row in rows],
                "skipped": [{"original": skip.original, "reason": skip.reason} for skip in skipped],
            },
        )
        return _outcome([table, *files], rows, skipped, notes)


def _make_folders(folder: Path) -> None:
    """The stage's sub-folders, with nothing in them that an earlier version has left."""
    for part in (folder / IMAGES, folder / MASKS, folder / RECORDS):
        part.mkdir(exist_ok=True)
        for stray in [path for path in part.iterdir() if path.is_dir()]:
            discard(stray)


def _keep_only(folder: Path, rows: Sequence[PreparedPhoto]) -> list[Path]:
    """Removes pictures and masks that belong to no row; returns those that do."""
    files = prepared_files(folder, rows)
    keep = set(files)
    for part in (folder / IMAGES, folder / MASKS):
        for path in part.iterdir():
            if path not in keep:
                path.unlink(missing_ok=True)
    return files


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


def _content_hash(workspace: Workspace, path: Path) -> str:
    try:
        return workspace.content_hash(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


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


def _find(workspace: Workspace, given: RunInputs) -> Findings:
    """What there is to prepare. Masks and maps that lie among the photos are none."""
    images = Path(given.images)
    others = [given.path(field) for field in ("masks", "depth_maps", "normal_maps")]
    among = [path for path in others if path is not None and path.resolve() != images.resolve()]
    return find_photos(images, exclude=[workspace.root, *among])


def _without_duplicates(
    rows: Sequence[PreparedPhoto],
) -> tuple[list[PreparedPhoto], list[Skipped]]:
    twins = find_duplicates(rows)
    given = {row.name: row.given for row in rows}
    pairs = dict.fromkeys((given[name], given[twin]) for name, twin in twins.items())
    skipped = [Skipped(original=name, reason=f"the same picture as {twin}") for name, twin in pairs]
    return [row for row in rows if row.name not in twins], skipped


def _refuse_namesakes(rows: Sequence[PreparedPhoto], images: Path) -> None:
    """Raises `InputError` where a photo in `images` is called like a face of a panorama or a
    video's frame."""
    for key in ("name", "original"):
        first: dict[str, PreparedPhoto] = {}
        for row in rows:
            other = first.setdefault(getattr(row, key).casefold(), row)
            parts = [one for one in (row, other) if one.face or one.sequence]
            if other is not row and parts:
                part, photo = parts[0], other if parts[0] is row else row
                whole = (
                    f"a face of the panorama {part.given}"
                    if part.face
                    else f"a frame of the video {part.sequence}"
                )
                raise InputError(
                    f"has the name of {whole}.",
                    subject=images / photo.original,
                    action="Rename one of the two, or leave it out.",
                )


def _too_few(usable: int, found: int, skipped: Sequence[Skipped]) -> str:
    if not found and not skipped:
        return "holds no photos."
    counted = {0: "no usable photo", 1: "only one usable photo"}[usable]
    reasons = "; ".join(f"{skip.original}: {skip.reason}" for skip in skipped[:3])
    return f"holds {counted}" + (f" ({reasons})." if reasons else ".")


def count_pictures(rows: Sequence[PreparedPhoto]) -> str:
    """How many photos and panoramas `rows` are of, in words."""
    faces = [row for row in rows if row.face is not None]
    if not faces:
        return f"{len(rows)} photos"
    panoramas = f"{len({row.given for row in faces})} panoramas as {len(faces)} faces"
    photos = len(rows) - len(faces)
    return f"{panoramas} and {photos} photos" if photos else panoramas


def _outcome(
    files: Sequence[Path],
    rows: Sequence[PreparedPhoto],
    skipped: Sequence[Skipped],
    notes: Sequence[str],
) -> StageOutcome:
    sizes = {(row.width, row.height) for row in rows}
    width, height = max(sizes)
    headline = f"{count_pictures(rows)}, {'up to ' if len(sizes) > 1 else ''}{width}x{height}"
    if skipped:
        headline += f", {len(skipped)} skipped"
    return StageOutcome(
        files=files,
        summary={
            "photos": len(rows),
            "panoramas": len({row.given for row in rows if row.face is not None}),
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
