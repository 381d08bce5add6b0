"""How long it takes to look at a finished run of many views, and in what memory: `status`,
`report`, the page in a browser, `clean`, the viewer's sample of a cloud.

The runs are faked (tests/support/fake_workspace.py): small depth maps and pictures, links of a few
files, under records and manifests as a run leaves them.

    python benchmarks/looking.py [--views 100 1000 10000] [--points 50000000] [--size 800x600]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import machine
from process_tree import Measured, run_measured

from refdepth.evaluation import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
COMMAND = (sys.executable, "-m", "refdepth.cli.main")
SAMPLE = (
    "import sys; from pathlib import Path; from refdepth.io.ply import sample_ply;"
    " print(len(sample_ply(Path(sys.argv[1]), 1_500_000)))"
)
PARTIAL = "status of an unfinished run"


def measured(command: Sequence[str], place: Path) -> Measured:
    """Runs a command alone. Raises `RuntimeError` where it fails."""
    said = place / "said.txt"
    found = run_measured(command, environment=os.environ, folder=ROOT, said=said, spin=False)
    if found.code:
        raise RuntimeError(f"{' '.join(command)} ended with {found.code}:\n{said.read_text()}")
    return found


def row(title: str, found: Measured, more: str = "") -> tuple[str, ...]:
    """A line of the table."""
    cpu = found.cores * found.seconds
    return title, f"{found.seconds:.1f}", f"{cpu:.1f}", f"{found.rss_mb:,.0f}", more


def look(views: int, width: int, height: int, points: int, place: Path) -> Table:
    """All commands on a run of `views`."""
    from fake_workspace import make_fake_workspace

    root = place / str(views)
    out = make_fake_workspace(root, views, width=width, height=height, points=points).root
    megabytes = sum(path.stat().st_size for path in out.rglob("manifest.json")) / 1e6
    files = sum(len(names) for _, _, names in os.walk(out))
    rows = [
        row("status", measured([*COMMAND, "status", str(out)], place), f"{files:,} files"),
        row("status --json", measured([*COMMAND, "status", str(out), "--json"], place)),
    ]
    report = measured([*COMMAND, "report", str(out), "--workers", "1"], place)
    page = out / "report.html"
    rows.append(row("report", report, f"{page.stat().st_size / 1e6:.1f} MB"))
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser:
        options = ("--headless", "--no-sandbox", f"--screenshot={place / 'page.png'}")
        blank = measured([browser, *options, "about:blank"], place)
        opened = measured([browser, *options, page.as_uri()], place)
        more = f"an empty page: {blank.seconds:.1f} s"
        rows.append(row("the page in Chromium", opened, more))
    rows.append(row("clean --dry-run", measured([*COMMAND, "clean", str(out), "--dry-run"], place)))
    rows.append(row("clean", measured([*COMMAND, "clean", str(out)], place)))
    rows.append(row("status, cleaned", measured([*COMMAND, "status", str(out)], place)))
    (out / "refine" / "manifest.json").unlink()
    rows.append(row(PARTIAL, measured([*COMMAND, "status", str(out)], place)))
    shutil.rmtree(root)
    return Table(
        title=f"{views:,} views (manifests: {megabytes:.1f} MB)",
        columns=("", "s", "CPU s", "MB", ""),
        rows=rows,
    )


def sample(points: int, place: Path) -> Table:
    """A large cloud as the viewer reads it."""
    from dataclasses import replace

    import numpy as np

    from refdepth.io.ply import write_ply
    from refdepth.types.cloud import PointCloud

    rng, size = np.random.default_rng(0), 1_000_000
    piece = PointCloud(
        points=rng.normal(size=(size, 3)).astype(np.float32),
        normals=np.zeros((size, 3), np.float32),
        colors=rng.integers(0, 256, (size, 3)).astype(np.uint8),
        confidence=rng.uniform(size=size).astype(np.float32),
    )
    path = place / "cloud.ply"
    write_ply(path, (replace(piece) for _ in range(max(1, points // size))))
    started = time.perf_counter()
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    plain = time.perf_counter() - started
    found = measured([sys.executable, "-c", SAMPLE, str(path)], place)
    table = Table(
        title=f"1,500,000 of {points:,} points ({path.stat().st_size / 1e9:.1f} GB)",
        columns=("", "s", "CPU s", "MB", ""),
        rows=[row("sample", found, f"reading the file alone: {plain:.1f} s")],
    )
    path.unlink()
    return table


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--views", type=int, nargs="*", default=[100, 1000, 10000])
    parser.add_argument("--points", type=int, default=50_000_000, help="of the large cloud")
    parser.add_argument("--size", default="800x600", help="of the pictures, WIDTHxHEIGHT")
    parser.add_argument("--folder", type=Path, help="where runs are faked")
    args, about = parser.parse_args(), machine()
    width, height = map(int, args.size.split("x"))
    print(f"{about['cpu']}, {about['cores']} cores; load {about['load']:.1f}; busy:", about["busy"])
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for views in args.views:
            table = look(views, width, height, 2_000_000, Path(folder))
            print(f"\n{table.to_text()}", flush=True)
        if args.points:
            print(f"\n{sample(args.points, Path(folder)).to_text()}")


if __name__ == "__main__":
    main()
