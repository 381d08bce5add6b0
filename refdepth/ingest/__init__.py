"""Reading what people give: photos, masks and video of any kind, made into upright 8-bit RGB."""

from refdepth.ingest.discovery import Candidate, Findings, Skipped, find_photos, safe_stems
from refdepth.ingest.faces import prepare_picture
from refdepth.ingest.names import NameTable
from refdepth.ingest.photos import PreparedPhoto, find_duplicates, prepare_photo
from refdepth.ingest.settings import PrepareSettings

__all__ = [
    "Candidate",
    "Findings",
    "NameTable",
    "PrepareSettings",
    "PreparedPhoto",
    "Skipped",
    "find_duplicates",
    "find_photos",
    "prepare_photo",
    "prepare_picture",
    "safe_stems",
]
