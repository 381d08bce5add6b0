"""Views a minute of whole command-line runs: `refdepth stage refine`, and the demo.

A synthetic room with given cameras and simulated monocular maps is brought up to the scaled priors
once; then fresh copies of that workspace are refined, the configurations in turn, several times.
Compiled kernels are there already, but for --cold. Memory and cores are those of all processes.

    python benchmarks/throughput.py [--views 16] [--size 640x480] [--workers 1 2 3 auto]
        [--repeat 3] [--busy] [--layers] [--old REVISION_OR_FOLDER] [--cold] [--demo]
        [--max-memory GB] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from process_tree import run_measured
from versions import COMMAND, ROOT, Version, old_version

from refdepth.evaluation import Table
from refdepth.io.colmap import to_reconstruction
from refdepth.synthetic import make_scene

FIRST_DONE = re.compile(r"(\S+ \S+) .*: matching views: .* done.* in ([\d.]+) s")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration."""

    version: Version
    what: str
    """`refine`, `cold` (the same without compiled kernels) or `demo`."""
    workers: str | None
    """None: the version knows no workers."""
    layer: str | None = None
    busy: bool = False

    @property
    def title(self) -> str:
        """Its row in the table."""
        parts = (self.version.name, self.workers, self.layer, "busy" if self.busy else None)
        return ", ".join(part for part in parts if part)

    def is_after(self, other: Case) -> bool:
        """Whether `other` is the same with the old version, which may know no workers."""
        mine, theirs = ((one.what, one.layer, one.busy) for one in (self, other))
        versions = self.version.name, other.version.name
        same = mine == theirs and other.workers in (None, self.workers)
        return same and versions == ("new", "old")


def make_inputs(folder: Path, views: int, width: int, height: int) -> Path:
    """Photos, a COLMAP model and simulated maps of a room, in a folder inside `folder`."""
    inputs = folder / f"room-{views}-{width}x{height}"
    if inputs.exists():
        return inputs
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        made, half = make_scene("room", 0, views, width, height), Path(place) / "half"
        for name in ("maps", "model"):
            (half / name).mkdir(parents=True)
        scene = made.to_scene(half / "photos")
        to_reconstruction(scene).write(str(half / "model"))
        for number, view in enumerate(made.views):
            path = half / "maps" / Path(view.name).with_suffix(".npy").name
            np.save(path, made.simulated_prior(number).values)
        half.rename(inputs)
    return inputs


def prepare(version: Version, inputs: Path, args: argparse.Namespace) -> None:
    """Has the version bring its workspace up to the scaled priors, and compile its kernels."""
    say(f"{version.name}: preparing …")
    options = ["--model", str(inputs / "model"), "--quality", args.quality, "--until", "scale"]
    options += ["--depth-maps", str(inputs / "maps"), "--depth-kind", "inverse_affine"]
    if args.max_memory is not None:
        options += ["--max-memory", str(args.max_memory)]
    command = ["reconstruct", str(inputs / "photos"), str(version.prepared), *options]
    done = subprocess.run(
        [*COMMAND, *command],
        env=version.environment(version.kernels),
        cwd=version.work,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{version.name}: `refdepth {' '.join(command)}` failed")


def run(case: Case) -> dict[str, Any]:
    """One run in a fresh folder; how it went."""
    version = case.version
    with tempfile.TemporaryDirectory(dir=version.work) as place:
        workspace, kernels = Path(place) / "out", version.kernels
        if case.what == "cold":
            kernels = Path(place) / "kernels"
        command = ["demo", str(workspace)]
        if case.what != "demo":
            shutil.copytree(version.prepared, workspace)
            command = ["stage", "refine", "-w", str(workspace)]
        if case.workers is not None:
            command += ["--workers", case.workers]
        if hasattr(os, "sync"):
            os.sync()  # what was copied is not to be written meanwhile
        compiled = len(list(kernels.rglob("*.nbc")))
        said = Path(place) / "said.txt"
        measured = run_measured(
            [*COMMAND, *command],
            environment=version.environment(kernels, case.layer),
            folder=Path(place),
            said=said,
            spin=case.busy,
        )
        found = asdict(measured)
        if measured.code:
            found["said"] = said.read_text(errors="replace")[-2000:]
            return found
        views = len([*(workspace / "photos").glob("*")]) if case.what == "demo" else None
        found["views"] = views or len([*(workspace / "refine").glob("*.npz")])
        found["compiled"] = len(list(kernels.rglob("*.nbc"))) - compiled
        if case.what == "cold":
            found |= first_view(workspace, measured.started)
        return found


def first_view(workspace: Path, started: float) -> dict[str, float]:
    """Seconds until the first view of a refinement was worked on (where the log says so: not that
    of older versions), and until it was done."""
    done = [path.stat().st_mtime for path in (workspace / "refine" / "first").glob("*.npz")]
    found = {"first_done": min(done) - started}
    begun = []
    for line in (workspace / "refdepth.log").read_text().splitlines():
        if match := FIRST_DONE.match(line):
            at = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
            begun.append(at - float(match[2]) - started)
    return found | ({"first_begun": min(begun)} if begun else {})


def configurations(
    versions: dict[Version, dict[str, Any]], layers: list[str], args: argparse.Namespace
) -> list[Case]:
    """All that is asked for, in the order in which it is run again and again."""
    cases = []
    for what in ["refine"] * args.refine + ["demo"] * args.demo + ["cold"] * args.cold:
        warm = what != "cold"
        loads = (False, True) if args.busy and warm else (False,)
        chosen = layers if args.layers and warm else [None]
        for busy, layer, (version, facts) in product(loads, chosen, versions.items()):
            same = partial(Case, version=version, what=what, layer=layer, busy=busy)
            cases += [same(workers=workers) for workers in args.workers if facts["workers"]]
            if not facts["workers"]:
                cases.append(same(workers=None))
    return cases


def measure(cases: list[Case], repeat: int) -> dict[Case, list[dict[str, Any]]]:
    """Every case in turn, `repeat` times, after a run of each version that is not counted."""
    runs: dict[Case, list[dict[str, Any]]] = {case: [] for case in cases}
    warm = [case for case in reversed(cases) if case.what != "cold"]
    for case in {(case.what, case.version): case for case in warm}.values():
        say(f"{case.what}: {case.title}, not counted …")
        run(case)
    for number in range(repeat):
        for case in cases:
            found = run(case)
            runs[case].append(found)
            how = f"failed\n{found['said']}" if found["code"] else f"{found['seconds']:.1f} s"
            say(f"{number + 1}/{repeat} {case.what}: {case.title}: {how}")
    return runs


def say(text: str) -> None:
    """What goes on, beside the tables."""
    print(text, file=sys.stderr, flush=True)


def middle(found: list[dict[str, Any]], key: str) -> float | None:
    """The median of a figure over the runs that went well."""
    values = [one[key] for one in found if not one["code"] and one.get(key) is not None]
    return statistics.median(values) if values else None


def spread(found: list[dict[str, Any]]) -> str:
    """Longest less shortest time, as a share of the median."""
    seconds = [one["seconds"] for one in found if not one["code"]]
    if len(seconds) < 2:
        return "-"
    return f"{(max(seconds) - min(seconds)) / statistics.median(seconds):.0%}"


def views_a_minute(found: list[dict[str, Any]]) -> float | None:
    """By the median time."""
    seconds, views = middle(found, "seconds"), middle(found, "views")
    return 60 * views / seconds if seconds and views else None


def warm_table(title: str, runs: dict[Case, list[dict[str, Any]]], gb: float | None) -> Table:
    """Cases of one kind."""
    rows, bounds = [], []
    for case, found in runs.items():
        before = next((other for other in runs if case.is_after(other)), None)
        rate, old = views_a_minute(found), views_a_minute(runs[before]) if before else None
        ratio = rate / old if rate and old else None
        row = [cell(middle(found, "seconds")), cell(rate), spread(found)]
        row += [cell(middle(found, key), n) for key, n in (("cores", 2), ("pss_mb", 0))]
        rows.append((case.title, *row, cell(middle(found, "rss_mb"), 0), cell(ratio, 2)))
        if gb is not None:
            peak = max((one["pss_mb"] or one["rss_mb"]) / 1024 for one in found)
            verdict = "within" if peak <= gb else "MORE than"
            bounds.append(f"{case.title}: at most {peak:.2f} GB, {verdict} the {gb:g} GB allowed.")
    columns = ("", "s", "views/min", "spread", "cores", "PSS", "RSS", "x old")
    notes = [*bounds, *remarks(runs)]
    return Table(title=title, columns=columns, rows=tuple(rows), notes=tuple(notes))


def cold_table(runs: dict[Case, list[dict[str, Any]]]) -> Table:
    """Cases without compiled kernels."""
    keys = ("first_begun", "first_done", "seconds")
    rows = tuple(
        (case.title, *(cell(middle(found, key)) for key in keys), spread(found))
        for case, found in runs.items()
    )
    columns = ("", "first view begun", "first view done", "all", "spread")
    title = "refdepth stage refine, no kernel compiled yet: seconds from the start"
    return Table(title=title, columns=columns, rows=rows, notes=tuple(remarks(runs, cold=True)))


def remarks(runs: dict[Case, list[dict[str, Any]]], *, cold: bool = False) -> Iterator[str]:
    """What figures must not be read without."""
    for case, found in runs.items():
        if failed := [str(one["code"]) for one in found if one["code"]]:
            yield f"{case.title}: {len(failed)} of {len(found)} failed (code {', '.join(failed)})."
        if not cold and (compiled := sum(one.get("compiled", 0) for one in found)):
            yield f"{case.title}: compiled {compiled} kernels meanwhile."
    every = [one for found in runs.values() for one in found]
    others = [one["others"] for one in every]
    yield f"Cores that others kept busy meanwhile: {min(others):.2f} to {max(others):.2f};"
    yield f"looking at memory took up to {max(one['sampling'] for one in every):.0%} of one."


def cell(value: float | None, digits: int = 1) -> str:
    """A figure, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def headings(about: dict[str, Any], versions: dict[Version, dict[str, Any]]) -> list[str]:
    """The machine and the versions in a few lines."""
    busy = ", ".join(about["busy"][:3])
    return [
        f"{about['cores']} cores usable, {about['cpu']}, {about['memory_gb']:.0f} GB",
        ", ".join(f"{name} {version}" for name, version in about["packages"].items()),
        f"threading layers: {', '.join(about['layers'])}; system's TBB: {about['system_tbb']}",
        *(
            f"{version.name}: {facts['revision']}, by itself on {facts['layer']}"
            for version, facts in versions.items()
        ),
        f"load average before: {about['load']:.2f}; " + (f"NOT quiet: {busy}" if busy else "quiet"),
    ]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--views", type=int, default=16)
    add("--size", default="640x480", help="of the photos, WIDTHxHEIGHT")
    add("--quality", default="balanced")
    add("--workers", nargs="+", default=["1", "2", "3", "auto"], metavar="N|auto")
    add("--repeat", type=int, default=3)
    add("--busy", action="store_true", help="also beside a process that keeps a core busy")
    add("--layers", action="store_true", help="on each of numba's threading layers that is there")
    add("--old", metavar="REVISION|FOLDER", help="also another version of the code, for the ratio")
    add("--demo", action="store_true", help="also `refdepth demo`")
    add("--cold", action="store_true", help="also with no kernel compiled")
    add("--no-refine", dest="refine", action="store_false", help="only --demo and --cold")
    add("--max-memory", type=float, metavar="GB", help="what runs are told to stay within")
    add(
        "--folder",
        type=Path,
        default=ROOT / "benchmarks" / "results" / "throughput",
        help="photos and copies",
    )
    add("--json", type=Path, metavar="FILE", help="also write every run's figures")
    return parser.parse_args()


def main() -> None:
    """Measures, prints and writes."""
    args, about = arguments(), machine()
    width, height = map(int, args.size.split("x"))
    inputs = make_inputs(args.folder.resolve(), args.views, width, height)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=inputs.parent)))
        roots = {"new": ROOT}
        if args.old:
            roots["old"] = stack.enter_context(old_version(args.old, place))
        versions = {}
        for name, root in roots.items():
            lasting = place if place in root.parents else inputs.parent
            kernels = lasting / "kernels" / name
            version = Version(name=name, root=root, work=place / name, kernels=kernels)
            versions[version] = version.probe()
        for version in versions:
            prepare(version, inputs, args)
        runs = measure(configurations(versions, about["layers"], args), args.repeat)
    print("\n".join(headings(about, versions)))
    scene = f"{args.views} views of {args.size}, {args.quality}"
    titles = {"refine": f"refdepth stage refine, {scene}", "demo": "refdepth demo", "cold": ""}
    for what, title in titles.items():
        if chosen := {case: found for case, found in runs.items() if case.what == what}:
            warm = what != "cold"
            limit = args.max_memory if what == "refine" else None
            table = warm_table(title, chosen, limit) if warm else cold_table(chosen)
            print(f"\n{table.to_text()}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        about |= {"versions": {version.name: facts for version, facts in versions.items()}}
        about |= {"arguments": {key: str(value) for key, value in vars(args).items()}}
        every = [
            {"what": case.what, "case": case.title, **one}
            for case, found in runs.items()
            for one in found
        ]
        args.json.write_text(json.dumps({"about": about, "runs": every}, indent=1) + "\n")


if __name__ == "__main__":
    main()
