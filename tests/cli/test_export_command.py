"""`refdepth export` and `refdepth report` as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run


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
        (["--to", "obj"], ExitCode.USAGE, "colmap, nerfstudio, depth, splat, mesh, cloud"),
        ([], ExitCode.USAGE, "names no format"),
        (["--to", "depth", "--depth-as", "exr"], ExitCode.USAGE, "png16, tiff32, npz, pictures"),
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
