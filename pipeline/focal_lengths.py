"""Focal lengths that the run's depth network sees in photos, for cameras without one in EXIF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refdepth.errors import InputError
from refdepth.ingest import PreparedPhoto
from refdepth.io.images import read_rgb
from refdepth.pipeline.config import RunRequest
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.priors import checkpoint_of, choose_prior, cost_of_network
from refdepth.pipeline.stage import Brief, StageContext
from refdepth.pipeline.stages.prepare import read_table
from refdepth.pipeline.stages.reading import IMAGES
from refdepth.pipeline.work import Cost, Desk
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.checkpoints import AUTO, SWEEP, cached_checkpoint, local_folder
from refdepth.priors.network_kinds import DEPTH_PRO, read_configuration, tells_focal_length

NETWORK = "focal_network"
"""Under which the stage's inputs have the network's identity."""
FOCAL = "focal"
"""Folder of what the network said, in the stage's own."""


def focal_network(
    workspace: Workspace, request: RunRequest, *, looking: bool
) -> Mapping[str, Any] | None:
    """Identity of the depth network that photos are shown to before cameras are looked for: that of
    the run where it says how wide a lens is (Depth Pro), cameras are not given, and a photo has no
    focal length. None: it is not asked.

    One who is only `looking` reads no weights: `NotKnownYet` is raised where that would be needed.
    """
    given, settings = request.inputs, request.config.depth
    if given.model or given.poses or given.depth_maps or settings.model in (AUTO, SWEEP):
        return None
    if not _some_ask(workspace, request):
        return None
    folder = local_folder(settings.model)
    if folder is None and looking:
        cached = cached_checkpoint(settings.model, settings.revision)
        if cached is None and settings.model != DEPTH_PRO:
            return None
        folder = None if cached is None else cached.folder
    if folder is not None and not _tells(folder):
        return None
    depth = Manifest.read(workspace.stage_dir("depth"))
    identity = choose_prior(workspace, request, depth, looking=looking)
    if folder is None and not looking and not _tells(checkpoint_of(request, identity).folder):
        return None
    return {name: identity[name] for name in ("model", "revision")}


def focal_lengths(context: StageContext, photos: list[PreparedPhoto]) -> dict[str, float]:
    """Focal lengths by photo (pixels), of those that the stage's network was asked about and saw
    one in."""
    from refdepth.sfm.focal import photos_to_ask

    network = context.inputs.get(NETWORK)
    if network is None:
        return {}
    names = photos_to_ask(photos, context.config.sfm)
    if not names:
        return {}
    items = context.items(FOCAL, bare=True)
    items.folder.mkdir(exist_ok=True)
    left = [name for name in names if not items.is_done(name)]
    work = FocalLengths(
        brief=context.brief,
        cost=cost_of_network(context.request, checkpoint_of(context.request, network)),
    )
    context.perform("estimating focal lengths", work, left, done=len(names) - len(left))
    items.remove_others(names)
    widths = {photo.name: photo.width for photo in photos}
    seen = {name: items.record(name)["focal_widths"] for name in names}
    return {name: focal * widths[name] for name, focal in seen.items() if focal is not None}


@dataclass(frozen=True, kw_only=True)
class FocalLengths:
    """The focal length that the network sees in a prepared photo."""

    brief: Brief
    cost: Cost

    def open(self, desk: Desk) -> Callable[[str], None]:
        """Gets the network ready."""
        from refdepth.priors.network import NetworkPrior

        request = self.brief.request
        network = NetworkPrior(
            checkpoint_of(request, self.brief.inputs[NETWORK]),
            device=request.config.runtime.device.value,
            kind=request.config.depth.kind,
        )
        items = self.brief.items(FOCAL, bare=True)
        images = self.brief.workspace.stage_dir("prepare") / IMAGES

        def make(name: str) -> None:
            if not items.is_done(name):
                focal = network.focal_length(read_rgb(images / name))
                items.write(name, {}, {"focal_widths": focal, "device": network.device})

        return make


def _tells(folder: Path) -> bool:
    """Whether the checkpoint in `folder` says how wide a lens is. What is no checkpoint is refused
    by the stage that asks it for depth."""
    try:
        return tells_focal_length(read_configuration(folder))
    except InputError:
        return False


def _some_ask(workspace: Workspace, request: RunRequest) -> bool:
    """Whether a photo may have no focal length; before there are prepared photos, any may."""
    try:
        photos = read_table(workspace)
    except InputError:
        return True
    trusted = request.config.sfm.use_exif_focal
    return any(photo.face is None and not (trusted and photo.focal_px) for photo in photos)
