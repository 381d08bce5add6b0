"""Charts as inline SVG: they follow the page's colours, dark or light, and weigh little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import ArrayLike, NDArray

WIDTH, HEIGHT = 400, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 10, 20, 40


@dataclass(frozen=True, kw_only=True)
class _Axes:
    """From values to pixels of the drawing."""

    x0: float
    x1: float
    y0: float
    y1: float

    def place(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels of values."""
        u = (np.asarray(x, float) - self.x0) / (self.x1 - self.x0)
        v = (np.asarray(y, float) - self.y0) / (self.y1 - self.y0)
        return _LEFT + u * (WIDTH - _LEFT - _RIGHT), HEIGHT - _BOTTOM - v * (
            HEIGHT - _TOP - _BOTTOM
        )

    def frame(self, x_label: str, y_label: str) -> str:
        """Axes, ticks and labels."""
        parts = []
        bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        for value in ticks(self.x0, self.x1):
            x = f"{self.place(value, self.y0)[0]:.1f}"
            parts.append(
                f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom}"/>'
                f'<text x="{x}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>'
            )
        for value in ticks(self.y0, self.y1):
            y = float(self.place(self.x0, value)[1])
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(
            f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
            f"{escape(x_label)}</text>"
        )
        parts.append(f'<text class="label" x="{_LEFT}" y="11">{escape(y_label)}</text>')
        return "".join(parts)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values between `low` and `high`, about `count` of them."""
    span = high - low
    if not (np.isfinite(span) and span > 0):
        return []
    rough = span / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def scatter(
    x: ArrayLike,
    y: ArrayLike,
    inlier: ArrayLike,
    *,
    line: tuple[float, float] | None,
    x_label: str,
    y_label: str,
) -> Markup | None:
    """Points (N,) with the line y = a x + b; outliers are drawn apart. None without points."""
    x, y, inlier = np.asarray(x, float), np.asarray(y, float), np.asarray(inlier, bool)
    if len(x) == 0:
        return None
    axes = _axes(x, y)
    shapes = []
    for chosen, name in ((~inlier, "outlier"), (inlier, "inlier")):
        u, v = axes.place(x[chosen], y[chosen].clip(axes.y0, axes.y1))
        path = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(u, v, strict=True))
        if path:
            shapes.append(f'<path class="points {name}" d="{path}"/>')
    if line is not None:
        a, b = line
        ends = np.array([axes.x0, axes.x1])
        u, v = axes.place(ends, a * ends + b)
        shapes.append(f'<path class="fit" d="M{u[0]:.1f} {v[0]:.1f}L{u[1]:.1f} {v[1]:.1f}"/>')
    return _svg(axes.frame(x_label, y_label), shapes, f"{y_label} over {x_label}, {len(x)} points")


def lines(series: Mapping[str, Sequence[float]], *, x_label: str, y_label: str) -> Markup | None:
    """One line a series over its index, drawn from 0, so that small changes look small. None when
    there is nothing to draw."""
    values = {
        name: np.asarray(ys, float)
        for name, ys in series.items()
        if len(ys) > 1 and np.isfinite(ys).all()
    }
    if not values:
        return None
    every = np.concatenate(list(values.values()))
    steps = np.array([0.0, max(len(ys) for ys in values.values()) - 1.0])
    axes = _axes(steps, every)
    axes = replace(axes, y0=min(axes.y0, 0.0))
    shapes, legend = [], []
    for number, (name, ys) in enumerate(values.items()):
        u, v = axes.place(np.arange(len(ys)), ys)
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(u, v, strict=True))
        shapes.append(f'<path class="line s{number % 4}" d="M{path}"/>')
        legend.append(
            f'<text class="s{number % 4}" x="{WIDTH - _RIGHT - 4}" y="{_TOP + 14 + 15 * number}"'
            f' text-anchor="end">{escape(name)}</text>'
        )
    if len(values) > 1:
        shapes += legend
    return _svg(axes.frame(x_label, y_label), shapes, f"{y_label} over {x_label}")


def reliability(
    series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str
) -> Markup | None:
    """Pairs of stated and true share, one line a series, over the diagonal on which they should
    lie. None without pairs."""
    series = {name: pairs for name, pairs in series.items() if pairs}
    if not series:
        return None
    axes = _Axes(x0=0, x1=1, y0=0, y1=1)
    u, v = axes.place([0, 1], [0, 1])
    shapes = [f'<path class="fit" d="M{u[0]:.1f} {v[0]:.1f}L{u[1]:.1f} {v[1]:.1f}"/>']
    for number, (name, pairs) in enumerate(series.items()):
        u, v = axes.place(*np.asarray(pairs, float).clip(0, 1).T)
        at = [f"{a:.1f} {b:.1f}" for a, b in zip(u, v, strict=True)]
        dots = "".join(f"M{point}h0" for point in at)
        shapes.append(f'<path class="line s{number % 4}" d="M{"L".join(at)}"/>')
        shapes.append(f'<path class="points s{number % 4}" d="{dots}"/>')
        shapes.append(
            f'<text class="s{number % 4}" x="{_LEFT + 8}" y="{_TOP + 16 + 15 * number}">'
            f"{escape(name)}</text>"
        )
    return _svg(axes.frame(x_label, y_label), shapes, f"{y_label} over {x_label}")


def histogram(
    values: Sequence[float | None],
    *,
    x_label: str,
    low: float | None = None,
    high: float | None = None,
    bins: int = 25,
) -> Markup | None:
    """How many of `values` lie where, between `low` and `high` where these are given; what lies
    beyond the largest hundredth counts in the last bar. None without values."""
    known = np.array([value for value in values if value is not None and np.isfinite(value)], float)
    if len(known) == 0:
        return None
    x0 = float(known.min()) if low is None else low
    x1 = float(np.quantile(known, 0.99)) if high is None else high
    x1 = x1 if x1 > x0 else x0 + 1
    counts, edges = np.histogram(known.clip(x0, x1), bins=bins, range=(x0, x1))
    axes = _Axes(x0=x0, x1=x1, y0=0, y1=1.05 * float(counts.max()))
    u, v = axes.place(edges, np.append(counts, 0))
    floor = HEIGHT - _BOTTOM
    bars = "".join(
        f"M{a + 0.5:.1f} {floor}V{top:.1f}H{b - 0.5:.1f}V{floor}Z"
        for a, b, top in zip(u[:-1], u[1:], v[:-1], strict=True)
        if top < floor
    )
    shapes = [f'<path class="bars" d="{bars}"/>']
    return _svg(axes.frame(x_label, "views"), shapes, f"views by {x_label}, {len(known)}")


def course(
    values: Sequence[float | None], marked: Sequence[bool], *, y_label: str, high: float = 100
) -> Markup | None:
    """One point a view, by its number, from 0 to `high`; `marked` ones are drawn apart. None
    without values."""
    rows = [n for n, value in enumerate(values) if value is not None]
    if not rows:
        return None
    y, apart = np.array([values[n] for n in rows], float), np.array(marked, bool)[rows]
    axes = _Axes(x0=0, x1=1.05 * max(len(values), 2), y0=0, y1=high)
    shapes = []
    for chosen, name in ((~apart, "inlier"), (apart, "outlier")):
        u, v = axes.place(np.array(rows)[chosen] + 1, y[chosen])
        path = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(u, v, strict=True))
        if path:
            shapes.append(f'<path class="points small {name}" d="{path}"/>')
    return _svg(axes.frame("view", y_label), shapes, f"{y_label} by view, {len(rows)} views")


def _axes(x: NDArray[np.float64], y: NDArray[np.float64]) -> _Axes:
    """Axes that hold the bulk of the points; a few far outliers are drawn at the rim."""
    y_low, y_high = np.quantile(y, [0.01, 0.99]) if len(y) > 50 else (y.min(), y.max())
    return _Axes(
        **dict(zip(("x0", "x1"), _padded(x.min(), x.max()), strict=True)),
        **dict(zip(("y0", "y1"), _padded(y_low, y_high), strict=True)),
    )


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return float(low - margin), float(high + margin)


def _svg(frame: str, shapes: Sequence[str], title: str) -> Markup:
    inner = (
        f'<svg x="{_LEFT}" y="{_TOP}" width="{WIDTH - _LEFT - _RIGHT}"'
        f' height="{HEIGHT - _TOP - _BOTTOM}"'
        f' viewBox="{_LEFT} {_TOP} {WIDTH - _LEFT - _RIGHT} {HEIGHT - _TOP - _BOTTOM}">'
        f"{''.join(shapes)}</svg>"
    )
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' aria-label="{escape(title)}">{frame}{inner}</svg>'
    )
