"""First-order steps on any of the paper's terms, and on ours: vertices move along their rays and,
if asked, sideways, while the sources' exposure is fitted along."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from refdepth.arrays import put
from refdepth.geometry.grid import WorkGrid
from refdepth.refine.mesh.appearance import Level
from refdepth.refine.mesh.schedule import State, Steps
from refdepth.refine.mesh.surface import PointAnchors, Surface
from refdepth.refine.paper import losses
from refdepth.refine.paper.exposure import Exposure
from refdepth.refine.paper.settings import PaperSettings
from refdepth.render import Renderer
from refdepth.types.camera import PinholeCamera

ROBUST_LIMIT = 0.3
"""Difference beyond which the robust term no longer pulls: a third of full contrast."""
EXPOSURE_RATE = 5e-3
SHIFT_RATE = 1e-2
LAST_RATE = 0.2
"""Share of the first step size that is left at the end of a level."""
BETAS = (0.9, 0.99)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceTerms:
    """What the terms that look at the reference's own depth need, in its photo's grid."""

    camera: PinholeCamera
    depth: NDArray[np.float32]
    """The start (H, W)."""
    shape_prior: NDArray[np.float32]
    """Depth whose gradients and edges are kept (H, W)."""
    normals: NDArray[np.float32] | None
    anchors: PointAnchors
    point_start: NDArray[np.float64]
    """Start depth at the anchored SfM points (N,)."""
    point_depth: NDArray[np.float64]
    """Their measured depth (N,)."""


class AdamSolver:
    """The free parameters of one view's surface, and how they move."""

    def __init__(
        self,
        surface: Surface,
        reference: ReferenceTerms,
        *,
        sources: int,
        channels: int,
        stride_px: int,
        settings: PaperSettings,
        renderer: Renderer,
        seed: int,
    ) -> None:
        self.settings = settings
        self.renderer = renderer
        self.reference = reference
        self.seed = seed
        self.stride_px = stride_px
        device = renderer.device
        self.pixels = put(surface.pixels, device)
        self.start = put(surface.depth, device)
        self.triangles = put(surface.triangles, device)
        edges = surface.edges()
        step = np.diff(np.log(surface.depth[edges]), axis=1)[:, 0]
        stiffness = np.exp(-settings.depth_edge * np.abs(step))
        self.edges = put(edges, device)
        self.edge_weight = put(stiffness.astype(np.float32), device)
        self.exposure = Exposure(settings.exposure, sources, channels, device)
        self.parameters = {
            "factor": torch.zeros(len(self.pixels), device=device, requires_grad=True),
            **self.exposure.parameters,
        }
        self.rates = dict.fromkeys(self.parameters, EXPOSURE_RATE)
        self.rates["factor"] = settings.learning_rate
        if settings.lateral:
            self.parameters["shift"] = torch.zeros_like(self.pixels, requires_grad=True)
            self.rates["shift"] = SHIFT_RATE
        self.moments = {
            name: (torch.zeros_like(value), torch.zeros_like(value))
            for name, value in self.parameters.items()
        }
        anchors = reference.anchors
        self.anchor_index = put(anchors.index, device)
        self.anchor_weight = put(anchors.weight, device)
        self.point_start = put(reference.point_start.astype(np.float32), device)
        self.point_depth = put(reference.point_depth.astype(np.float32), device)
        self.edge_distance = self._edge_distance() if settings.lateral else None
        self._prior_scale = 0
        self._prior = self._normals = torch.empty(0)

    def run(self, levels: list[Level], steps: Steps) -> None:
        """Does what remains of `steps`."""
        state = steps.resume()
        if state is not None:
            self._restore(state)
        elif levels:
            self._start_exposure(levels[0])
        for index, level in enumerate(levels):
            first = sum(steps.counts[:index])
            for step in steps.remaining(index):
                loss = self._loss(level, step)
                gradients = torch.autograd.grad(
                    loss, list(self.parameters.values()), allow_unused=True
                )
                part = (step - first) / steps.counts[index]
                self._move(gradients, step, LAST_RATE**part * level.scale**0.5)
                steps.finish(loss.detach(), self._state)

    @torch.no_grad()
    def reference_depth(self, *, moved: bool) -> torch.Tensor:
        """Depth (H, W) of the reference photo, rendered from the surface as it started or as it
        is now; 0 where it does not reach."""
        height, width = self.reference.depth.shape
        pixels, depth = self._vertices() if moved else (self.pixels, self.start)
        return self._reference_view(pixels, depth, 1, height, width)

    @torch.no_grad()
    def _start_exposure(self, level: Level) -> None:
        every = torch.arange(len(level.A), device=self.renderer.device)
        rendered, weight = self._render(level, *self._vertices(), every)
        self.exposure.start_from(rendered, level.images, weight)

    def _vertices(self) -> tuple[torch.Tensor, torch.Tensor]:
        depth = self.start * torch.exp(self.parameters["factor"])
        return self.pixels + self._shift(), depth

    def _shift(self) -> torch.Tensor:
        """Sideways shift (V, 2), at most a quarter of the stride."""
        raw = self.parameters.get("shift")
        if raw is None:
            return torch.zeros_like(self.pixels)
        return self.stride_px / 4 * torch.tanh(raw)

    def _loss(self, level: Level, step: int) -> torch.Tensor:
        weights = self.settings.weights
        pixels, depth = self._vertices()
        loss = self._appearance_loss(level, pixels, depth, self._targets(len(level.A), step))
        if weights.smoothness:
            loss = loss + weights.smoothness * losses.smoothness_loss(
                self.parameters["factor"], self.edges, self.edge_weight
            )
        if weights.points:
            change = (self.anchor_weight * self.parameters["factor"][self.anchor_index]).sum(dim=1)
            at_points = self.point_start * torch.exp(change)
            loss = loss + weights.points * losses.point_loss(
                at_points, self.point_depth, huber=weights.points_huber
            )
        if weights.shift and self.edge_distance is not None:
            loss = loss + weights.shift * losses.shift_loss(
                self.pixels, self._shift(), self.edge_distance, self.stride_px / 2
            )
        if weights.shape or weights.edges or (weights.normals and self._has_normals):
            loss = loss + self._shape_losses(level.scale, pixels, depth)
        return loss

    @property
    def _has_normals(self) -> bool:
        return self.reference.normals is not None

    def _targets(self, sources: int, step: int) -> torch.Tensor:
        """Which sources this step renders. Drawn from seed and step alone: nothing to save."""
        count = self.settings.targets
        device = self.renderer.device
        if not count or count >= sources:
            return torch.arange(sources, device=device)
        rng = np.random.default_rng([self.seed, step])
        return put(np.sort(rng.choice(sources, count, replace=False)), device)

    def _render(
        self, level: Level, pixels: torch.Tensor, depth: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The surface as the sources `targets` see it: appearance (B, H, W, C) before exposure, and
        how much each pixel counts (B, H, W)."""
        settings = self.settings
        height, width = level.size
        points = functional.pad(pixels, (0, 1), value=1.0) * depth[:, None]
        q = torch.einsum("sij,vj->svi", level.A[targets], points) + level.b[targets][:, None]
        out = self.renderer.render(
            q.contiguous(),
            self.triangles,
            uv=self.pixels / level.scale,
            texture=level.texture,
            height=height,
            width=width,
        )
        visible = out.coverage & (out.color[..., -1].detach() > 0.999)
        if settings.edge_band_px:
            visible &= ~losses.edge_band(
                out.depth.detach(), ratio=settings.cut_ratio, radius=settings.edge_band_px
            )
        return out.color[..., :-1], level.weight[targets] * visible

    def _appearance_loss(
        self, level: Level, pixels: torch.Tensor, depth: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        weights = self.settings.weights
        color, weight = self._render(level, pixels, depth, targets)
        rendered = self.exposure.apply(color, targets)
        target = level.images[targets]
        loss = rendered.new_zeros(())
        if weights.color:
            loss = loss + weights.color * losses.color_mse(rendered, target, weight)
        if weights.robust:
            loss = loss + weights.robust * losses.robust_l1(
                rendered, target, weight, limit=ROBUST_LIMIT
            )
        if weights.gradient:
            loss = loss + weights.gradient * losses.image_gradient_l1(rendered, target, weight)
        return loss

    def _shape_losses(self, scale: int, pixels: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        """The terms on the reference's own depth, rendered at the level's size."""
        weights = self.settings.weights
        if scale != self._prior_scale:
            self._load_prior(scale)
        height, width = self._prior.shape
        rendered = self._reference_view(pixels, depth, scale, height, width)
        valid = (rendered.detach() > 0) & (self._prior > 0)
        loss = rendered.new_zeros(())
        if weights.shape:
            steps = max(height, width) / losses.PAPER_SIDE_PX
            shape = losses.shape_loss(rendered, self._prior, valid, steps=steps)
            loss = loss + weights.shape * shape
        if weights.edges:
            loss = loss + weights.edges * losses.edge_map_loss(rendered, self._prior, valid)
        if weights.normals and self._has_normals:
            loss = loss + weights.normals * losses.normal_loss(
                rendered[..., None] * self._rays, self._normals, valid
            )
        return loss

    def _load_prior(self, scale: int) -> None:
        device = self.renderer.device
        reference = self.reference
        self._prior_scale = scale
        grid = WorkGrid(photo=reference.camera, factor=scale)
        self._prior = put(grid.shrink_depth(reference.shape_prior), device)
        if reference.normals is not None:
            self._rays = put(grid.camera.rays().astype(np.float32), device)
            self._normals = put(grid.sample(reference.normals), device)

    def _reference_view(
        self, pixels: torch.Tensor, depth: torch.Tensor, scale: int, height: int, width: int
    ) -> torch.Tensor:
        q = functional.pad(pixels / scale, (0, 1), value=1.0) * depth[:, None]
        return self.renderer.rasterize(q[None], self.triangles, height, width).depth[0]

    def _edge_distance(self) -> torch.Tensor:
        """Distance (H, W) of each pixel to the prior's nearest depth edge."""
        from scipy.ndimage import distance_transform_edt

        prior = torch.from_numpy(self.reference.shape_prior)[None]
        edges = losses.edge_band(prior, ratio=self.settings.cut_ratio, radius=1)[0].numpy()
        if not edges.any():
            return torch.full(edges.shape, 1e6, device=self.renderer.device)
        distance = distance_transform_edt(~edges).astype(np.float32)
        return put(distance, self.renderer.device)

    @torch.no_grad()
    def _move(self, gradients: tuple[torch.Tensor | None, ...], step: int, rate: float) -> None:
        """One Adam step (Kingma and Ba 2015, algorithm 1)."""
        for (name, value), gradient in zip(self.parameters.items(), gradients, strict=True):
            if gradient is None:
                continue
            gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
            mean, square = self.moments[name]
            mean.lerp_(gradient, 1 - BETAS[0])
            square.lerp_(gradient.square(), 1 - BETAS[1])
            unbiased = mean / (1 - BETAS[0] ** (step + 1))
            spread = (square / (1 - BETAS[1] ** (step + 1))).sqrt() + 1e-8
            value -= self.rates[name] * rate * unbiased / spread

    def _state(self) -> State:
        state = {}
        for name, value in self.parameters.items():
            kept = (value.detach(), *self.moments[name])
            for part, tensor in zip(("", ".mean", ".square"), kept, strict=True):
                state[name + part] = tensor.cpu().numpy().copy()
        return state

    @torch.no_grad()
    def _restore(self, state: State) -> None:
        for name, value in self.parameters.items():
            kept = (value, *self.moments[name])
            for part, tensor in zip(("", ".mean", ".square"), kept, strict=True):
                tensor.copy_(torch.from_numpy(state[name + part]))
