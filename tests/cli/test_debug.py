"""--debug is an option of every command and shows where an error came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer.main

from refdepth.cli.main import COMMANDS, app, run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_it_and_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert sum("--debug" in option.opts for option in command.params) == 1
    assert run([name, "--help"]) == 0
    assert "--debug" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["report"], ["evaluate", "--ground-truth", "."], ["view"], ["export"]],
    ids=lambda arguments: arguments[0],
)
def test_an_error_is_told_with_its_traceback_only_when_asked_for(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [arguments[0], str(tmp_path), *arguments[1:]]
    code = run(command)
    plain = capsys.readouterr().err
    assert run([*command, "--debug"]) == code
    told = capsys.readouterr().err
    assert "Traceback" not in plain
    assert "Traceback" in told
    assert plain.strip().splitlines()[-1].removeprefix("refdepth: ") in told


def test_commands_that_cannot_fail_take_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "--debug"]) == 0
    assert "[refine" in capsys.readouterr().out
