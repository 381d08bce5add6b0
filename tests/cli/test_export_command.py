"""`refdepth export` and `refdepth report` as a user meets them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from recorded_executor import RecordedExecutor

import refdepth.pipeline.choose_executor
import refdepth.pipeline.exports
from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.cli.session import report_on
from refdepth.errors import Interrupted, StageError
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.files import read_json, write_json
from refdepth.pipeline.workspace import Workspace


def test_several_formats_at_once(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["export", str(finished), "--to", "depth", "--to", "cloud", "--depth-as", "npz"])
    assert code == ExitCode.DONE
    assert len(list((finished / "export" / "depth" / "npz").iterdir())) == 7
    assert (finished / "export" / "cloud" / "cloud.ply").is_file()
    assert str(finished / "export" / "cloud") in capsys.readouterr().out


def test_the_nearest_workspace_above_is_taken(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished / "fuse")
    assert run(["export", "--to", "cloud", "--quiet"]) == ExitCode.DONE
    assert (finished / "export" / "cloud" / "cloud.ply").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--to", "obj"], ExitCode.USAGE, "colmap, nerfstudio, depth, splat, graphdeco"),
        ([], ExitCode.USAGE, "names no format"),
        (["--to", "depth", "--depth-as", "jp2"], ExitCode.USAGE, "npz, npy, exr, pictures"),
        (["--to", "depth", "--grid", "fisheye"], ExitCode.USAGE, "undistorted, original"),
        (["--to", "colmap", "--ray-depth"], ExitCode.USAGE, "--to depth"),
        (["--to", "gsplat", "--initial-points", "5"], ExitCode.USAGE, "initial-points"),
        (["--to", "depth", "--min-confidence", "2"], ExitCode.USAGE, "min-confidence"),
    ],
)
def test_wrong_usage(
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: ExitCode,
    words: str,
) -> None:
    assert run(["export", str(finished), *arguments]) == code
    assert words in capsys.readouterr().err
    assert not (finished / "export").exists()


@pytest.mark.parametrize(
    ("options", "module", "extra"),
    [
        (["--to", "depth", "--depth-as", "exr"], "OpenEXR", "exr"),
        (["--to", "cloud", "--cloud-as", "copc"], "copclib", "copc"),
        (["--to", "cloud", "--cloud-as", "e57"], "pye57", "e57"),
        (["--to", "cloud", "--cloud-as", "las"], "laspy", "las"),
    ],
)
def test_a_missing_library_is_named_with_what_to_install(
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    module: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert run(["export", str(finished), *options, "--quiet"]) == ExitCode.UNAVAILABLE
    assert f"refdepth[{extra}]" in capsys.readouterr().err
    assert list((finished / "export").iterdir()) == []


def test_nothing_is_overwritten_without_force(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(finished), "--to", "cloud", "--quiet"]
    assert run(command) == ExitCode.DONE
    assert run(command) == ExitCode.INPUT
    assert "--force" in capsys.readouterr().err
    assert run([*command, "--force"]) == ExitCode.DONE


def test_a_folder_that_is_no_workspace_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(tmp_path), "--to", "cloud"]) == ExitCode.INPUT
    assert "not a refdepth workspace" in capsys.readouterr().err


def test_the_report_is_written_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(finished)]) == ExitCode.DONE
    path = Path(capsys.readouterr().out.strip())
    assert path == finished / "report.html"
    assert path.read_text().startswith("<!doctype html>")


def test_the_report_command_uses_the_executor_that_was_asked_for(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = build_config(options={"runtime.workers": 3})
    Workspace(finished).write_request(RunRequest(inputs=RunInputs(images="photos"), config=config))
    executor, asked = RecordedExecutor(), []

    def choose(_: Path, request: RunRequest) -> RecordedExecutor:
        asked.append(request.config.runtime.workers)
        return executor

    monkeypatch.setattr(refdepth.pipeline.choose_executor, "choose_executor", choose)
    assert run(["report", str(finished)]) == ExitCode.DONE
    assert asked == [3]
    assert len(executor.done) == 7
    assert executor.closed


def test_settings_of_another_version_do_not_stop_the_report(finished: Path) -> None:
    request = read_json(finished / "refdepth.json")
    request["config"]["runtime"]["gone"] = 1
    write_json(finished / "refdepth.json", request)
    assert run(["report", str(finished)]) == ExitCode.DONE


def test_a_run_draws_its_report_with_its_executor_and_can_be_stopped_there(
    finished: Path,
) -> None:
    workspace, cancellation, executor = Workspace(finished), Cancellation(), RecordedExecutor()
    engine = Engine(workspace, workspace.request(), executor=executor, cancellation=cancellation)
    report_on(engine)
    assert len(executor.done) == 7
    cancellation.request()
    with pytest.raises(Interrupted):
        report_on(engine)


def test_stopped_it_says_how_the_same_export_goes_on(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*arguments: object) -> str:
        raise Interrupted("stopped.")

    monkeypatch.setattr(refdepth.pipeline.exports, "write_format", stopped)
    output = str(finished.parent / "exports")
    arguments = ["export", str(finished), "--to", "depth", "--output", output, "--consistent"]
    monkeypatch.setattr(sys, "argv", ["refdepth", *arguments])
    assert run(arguments) == ExitCode.INTERRUPTED
    assert f"Go on with: refdepth {' '.join(arguments)}\n" in capsys.readouterr().err


def test_a_run_whose_export_fails_has_its_report(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> str:
        raise StageError("too few views agree to make a surface.")

    monkeypatch.setattr(Engine, "reconstruct", lambda *arguments, **options: [])
    monkeypatch.setattr(refdepth.pipeline.exports, "write_format", refused)
    (tmp_path / "photos").mkdir()
    arguments = ["reconstruct", str(tmp_path / "photos"), str(finished), "--export", "mesh"]
    assert run(arguments) == ExitCode.STAGE
    assert (finished / "report.html").is_file()
