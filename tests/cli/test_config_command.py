"""`refdepth config`: a file to start from, explanations, a schema."""

from __future__ import annotations

import json
import tomllib

import pytest

from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run


def test_it_prints_a_file_to_start_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert tomllib.loads(text)["fuse"]["voxel_px"] == 1.0
    assert run(["config", "--quality", "fast"]) == ExitCode.DONE
    assert tomllib.loads(capsys.readouterr().out) != tomllib.loads(text)


def test_it_explains_every_setting_or_one_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--explain"]) == ExitCode.DONE
    everything = capsys.readouterr().out
    assert "How many neighbouring views each depth map is checked against" in everything
    assert "Does not change results" in everything
    assert run(["config", "fuse"]) == ExitCode.DONE
    part = capsys.readouterr().out
    assert "voxel_px" in part
    assert "device" not in part


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--schema"]) == ExitCode.DONE
    assert "refine" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--quality", "best"], ["--explain", "--schema"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", *arguments]) == ExitCode.USAGE
    assert arguments[-1] in capsys.readouterr().err
