"""Cleaning a finished run: what goes, what stays, and that everything that looks at it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_workspace import make_fake_workspace

from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.errors import InputError
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.exports import ExportFormat, export
from refdepth.pipeline.lock import WorkspaceLock
from refdepth.pipeline.results import Results
from refdepth.pipeline.spare import SPARES
from refdepth.pipeline.workspace import Workspace

VIEWS = 6
SPARE = ("prepare/images", "sfm/database.db", "depth", "refine/first", "refine/second")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fake")
    make_fake_workspace(root, VIEWS)
    return root


@pytest.fixture
def workspace(made: Path, tmp_path: Path) -> Workspace:
    """A copy that the test may change; its photos stay where they are."""
    return Workspace(Path(shutil.copytree(made / "out", tmp_path / "out")))


def arrays(root: Path) -> set[str]:
    """Folders of arrays and pictures, and files that are large by themselves."""
    found = {path.relative_to(root) for path in root.rglob("*")}
    alone = {path for path in found if path.suffix in (".db", ".ply")}
    folders = {path.parent for path in found if path.suffix in (".npz", ".jpg")}
    return {path.as_posix() for path in alone | folders}


def states(workspace: Workspace) -> list[str]:
    return [status.state.value for status in Engine(workspace, workspace.request()).status()]


def test_a_fake_run_counts_as_finished(workspace: Workspace) -> None:
    assert states(workspace) == ["done"] * 6
    assert arrays(workspace.root) == {
        *SPARE,
        "sfm/undistorted/images",
        "refine",
        "fuse",
        "fuse/cloud.ply",
    }


def test_what_a_finished_run_needs_stays_and_all_stages_stay_valid(workspace: Workspace) -> None:
    assert run(["clean", str(workspace.root)]) == ExitCode.DONE
    assert arrays(workspace.root) == {"sfm/undistorted/images", "refine", "fuse", "fuse/cloud.ply"}
    assert states(workspace) == ["cleaned", "done", "cleaned", "done", "cleaned", "done"]
    assert run(["status", str(workspace.root), "--verify"]) == ExitCode.DONE


def test_it_says_what_goes_and_how_much_that_frees(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sum(path.stat().st_size for path in workspace.root.rglob("*") if path.is_file())
    run(["status", str(workspace.root), "--json"])
    assert before > json.loads(capsys.readouterr().out)["bytes"] > 0.9 * before
    run(["clean", str(workspace.root), "--dry-run"])
    foretold = capsys.readouterr().out
    assert sum(p.stat().st_size for p in workspace.root.rglob("*") if p.is_file()) == before
    run(["clean", str(workspace.root)])
    said = capsys.readouterr().out
    assert foretold.replace("would be freed", "freed").replace("would stay", "stay") == said
    for kind in ("photos", "matches", "priors", "rounds"):
        assert kind in said
    run(["clean", str(workspace.root)])
    assert "Nothing to drop" in capsys.readouterr().out


def test_status_says_what_is_gone_and_how_large_the_rest_is(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["clean", str(workspace.root), "--keep", "matches"])
    capsys.readouterr()
    run(["status", str(workspace.root)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    lines = {row[0]: " ".join(row) for row in rows if row}
    assert lines["depth"].startswith(f"depth cleaned {VIEWS} priors, without priors")
    assert lines["scale"].startswith(f"scale done {VIEWS} views fitted")
    assert lines["total"].endswith("kB")
    run(["status", str(workspace.root), "--json"])
    status = json.loads(capsys.readouterr().out)
    assert status["bytes"] == sum(row["bytes"] for row in status["stages"])
    assert status["stages"][4]["state"] == "cleaned"
    assert status["stages"][4]["why"] == "without both rounds of refinement"


def test_kinds_that_are_to_be_kept_stay(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["clean", str(workspace.root), "--keep", "priors", "--keep", "matches"])
    assert {"depth", "sfm/database.db"} <= arrays(workspace.root)
    assert "kept: as asked" in capsys.readouterr().out
    assert run(["clean", str(workspace.root), "--keep", "cloud"]) == ExitCode.USAGE
    assert "photos, matches, priors, rounds" in capsys.readouterr().err


def test_pictures_stay_where_the_photos_are_gone(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "all"))
    request = json.loads((root / "out" / "refdepth.json").read_text())
    request["inputs"]["images"] = str(root / "gone")
    (root / "out" / "refdepth.json").write_text(json.dumps(request))
    run(["clean", str(root / "out")])
    assert "gone is gone" in " ".join(capsys.readouterr().out.split())
    assert "prepare/images" in arrays(root / "out")


def test_what_an_unfinished_run_still_reads_stays(workspace: Workspace) -> None:
    (workspace.root / "refine" / "manifest.json").unlink()
    run(["clean", str(workspace.root)])
    left = arrays(workspace.root)
    assert {"depth", "refine/first", "refine/second"} <= left
    assert not left & {"prepare/images", "sfm/database.db"}


def test_a_workspace_in_use_is_left_alone(workspace: Workspace) -> None:
    with WorkspaceLock(workspace.root):
        assert run(["clean", str(workspace.root)]) == ExitCode.BUSY
    assert set(SPARE) <= arrays(workspace.root)


def test_a_plan_after_cleaning_makes_again_what_is_read(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["clean", str(workspace.root)])
    capsys.readouterr()
    photos = workspace.request().inputs.images
    common = ["reconstruct", photos, str(workspace.root), "--depth-model", "sweep", "--dry-run"]
    run(common)
    assert capsys.readouterr().out.count(" reuse") == 6
    run([*common, "--set", "fuse.voxel_px=2"])
    assert capsys.readouterr().out.count(" reuse") == 5
    run([*common, "--set", "refine.iterations=2"])
    said = capsys.readouterr().out
    assert said.count(" reuse") == 3
    assert "depth    made again: without priors" in said


@pytest.mark.parametrize("name", ["prior", "scaled", "first_round"])
def test_reading_what_was_dropped_says_so(workspace: Workspace, name: str) -> None:
    run(["clean", str(workspace.root)])
    results = Results(workspace)
    read: Callable[[str], object] = getattr(results, name)
    with pytest.raises(InputError, match=r"dropped by `refdepth clean`.*--resume"):
        read(results.scene.names[0])


def test_results_exports_and_report_go_on_after_cleaning(workspace: Workspace) -> None:
    before = Results(workspace)
    name = before.scene.names[0]
    depth, cloud = before.refined(name).depth, before.cloud()
    run(["clean", str(workspace.root)])
    after = Results(workspace)
    assert np.array_equal(after.refined(name).depth, depth)
    assert len(after.cloud()) == len(cloud)
    assert after.views("refine") == before.scene.names
    assert after.views("scale") == ()
    made = export(workspace, [ExportFormat.COLMAP, ExportFormat.DEPTH, ExportFormat.CLOUD])
    assert all(folder.is_dir() for folder in made.values())
    assert run(["report", str(workspace.root), "--workers", "1"]) == ExitCode.DONE
    page = (workspace.root / "report.html").read_text()
    assert "Without priors" in page
    assert ">Refined<" in page
    assert "Scaled to the points<" not in page


def test_help_names_the_kinds_that_can_be_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["clean", "--help"]) == ExitCode.DONE
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    *most, last = [spare.name for spare in SPARES]
    assert f"Leave these: {', '.join(most)} or {last};" in said
