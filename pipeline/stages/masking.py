"""The work of stage `prepare` on the user's masks: each in the grid of its prepared photo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refdepth.errors import InputError
from refdepth.ingest import NameTable, PreparedPhoto
from refdepth.ingest.masks import SUFFIXES, prepare_mask, prepare_panorama_mask
from refdepth.pipeline.stage import StageContext
from refdepth.pipeline.stages.reading import MASKS
from refdepth.pipeline.work import Cost, Desk

MAX_NAMED = 5
"""Masks that belong to no photo are named up to this number."""
_SECONDS, _BYTES = 0.05, 15
"""Of a core for a megapixel of a mask, and memory for a pixel."""


def attach_masks(
    context: StageContext, rows: Sequence[PreparedPhoto]
) -> tuple[list[PreparedPhoto], list[str]]:
    """Brings the user's masks into the grid of the prepared photos, and what a user should know
    about masks without a photo. A mask from the photo's own transparency stays in force."""
    folder = context.given.path("masks")
    if folder is None:
        return list(rows), []
    found = NameTable.as_given(rows).files(folder, SUFFIXES)
    pictures: dict[str, list[PreparedPhoto]] = {}
    for row in rows:
        if (row.name if row.face is None else row.given) in found.files:
            pictures.setdefault(row.given, []).append(row)
    work = ReadMasks(
        folder=context.folder / MASKS,
        cost=_cost([rows_of[0] for rows_of in pictures.values()]),
        files={
            given: found.files[given if rows_of[0].face is not None else rows_of[0].name]
            for given, rows_of in pictures.items()
        },
        pictures=pictures,
    )
    warnings = context.perform("reading masks", work, list(pictures))
    masked = [
        replace(row, mask=mask_of(row), warnings=(*row.warnings, *warnings[row.given][row.name]))
        if row.given in pictures
        else row
        for row in rows
    ]
    if rows and all(row.mask is None for row in masked):
        raise InputError(
            "holds no mask for any of the photos.",
            subject=folder,
            action=f"Name masks after their photos, like {rows[0].given}.png.",
        )
    return masked, _strangers(found.strangers)


@dataclass(frozen=True, kw_only=True)
class ReadMasks:
    """The mask of a photo in the photo's grid, or of a panorama in those of its faces; hands back
    what a user should know about each, by the names of the prepared photos."""

    folder: Path
    """Where masks go."""
    cost: Cost
    files: Mapping[str, Path]
    """The user's masks by what they call their photos."""
    pictures: Mapping[str, Sequence[PreparedPhoto]]
    """By the same, the photo or all faces of the panorama."""

    def open(self, desk: Desk) -> Callable[[str], dict[str, tuple[str, ...]]]:
        """Needs nothing."""

        def make(name: str) -> dict[str, tuple[str, ...]]:
            photos = self.pictures[name]
            for photo in photos:
                if photo.mask is None:  # what lies there is not from the photo's transparency
                    (self.folder / mask_of(photo)).unlink(missing_ok=True)
            if photos[0].face is not None:
                made = prepare_panorama_mask(self.files[name], photos, self.folder)
            else:
                made = [prepare_mask(self.files[name], photos[0], self.folder)]
            return {one.photo: () if one.warning is None else (one.warning,) for one in made}

        return make


def mask_of(photo: PreparedPhoto) -> str:
    """What the mask of a photo is called."""
    return f"{photo.name}.png"


def _cost(photos: Sequence[PreparedPhoto]) -> Cost:
    """Of the mask of a photo of middling size."""
    sizes = sorted(
        photo.stored_width * photo.stored_height
        if photo.face is None
        else photo.face.stored_width * photo.face.stored_height
        for photo in photos
    )
    pixels = sizes[len(sizes) // 2] if sizes else 0
    return Cost(seconds=_SECONDS * pixels / 1e6, bytes=_BYTES * pixels)


def _strangers(masks: Sequence[str]) -> list[str]:
    if not masks:
        return []
    more = f" and {len(masks) - MAX_NAMED} more" if len(masks) > MAX_NAMED else ""
    what = "1 mask is" if len(masks) == 1 else f"{len(masks)} masks are"
    return [f"{what} named like no photo that is used: {', '.join(masks[:MAX_NAMED])}{more}"]
