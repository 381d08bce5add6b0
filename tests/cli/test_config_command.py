"""`refdepth config`: a file to start from, explanations, a schema."""

from __future__ import annotations

import json
import tomllib

import pytest
from rich.console import Console

from refdepth.cli import console
from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.pipeline.config_reference import describe_fields


def test_it_prints_a_file_to_start_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"]) == ExitCode.DONE
    text = capsys.readouterr().out
    assert tomllib.loads(text)["fuse"]["voxel_px"] == 0.7
    assert run(["config", "--quality", "fast"]) == ExitCode.DONE
    assert tomllib.loads(capsys.readouterr().out) != tomllib.loads(text)


def test_all_adds_the_settings_for_experts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config"]) == ExitCode.DONE
    assert "neighbours" not in tomllib.loads(capsys.readouterr().out)["fuse"]
    assert run(["config", "--all"]) == ExitCode.DONE
    assert tomllib.loads(capsys.readouterr().out)["fuse"]["neighbours"] == 10


def test_it_explains_every_setting_or_one_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--explain", "--all"]) == ExitCode.DONE
    everything = capsys.readouterr().out
    assert "How many neighbouring views each depth map is checked against" in everything
    assert "Does not change results" in everything
    assert "more:" not in everything
    for arguments in (["fuse"], ["--explain", "fuse"]):
        assert run(["config", *arguments]) == ExitCode.DONE
        part = capsys.readouterr().out
        assert "voxel_px" in part
        assert "neighbours = 10" in part
        assert "device" not in part


def test_unasked_it_explains_public_settings_and_counts_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["config", "--explain"]) == ExitCode.DONE
    public = capsys.readouterr().out
    assert "voxel_px" in public
    assert "neighbours = 10" not in public
    hidden = sum(field.expert for field in describe_fields())
    assert public.splitlines()[-1].startswith(f"{hidden} more: refdepth config --explain --all")


def test_explanations_keep_to_the_terminal_and_its_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "out", Console(width=80, highlight=False))
    assert run(["config", "--explain", "--all"]) == ExitCode.DONE
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    groups = {field.path.rpartition(".")[0] for field in describe_fields()}
    assert {line for line in lines if line and not line.startswith(" ")} == groups
    for field in describe_fields():
        assert " ".join(field.help.removesuffix(".").split()) in " ".join(text.split())


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--schema"]) == ExitCode.DONE
    assert "refine" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["--quality", "best"], ["--explain", "--schema"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", *arguments]) == ExitCode.USAGE
    assert arguments[-1] in capsys.readouterr().err
