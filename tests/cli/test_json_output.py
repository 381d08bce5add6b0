"""What --json prints is JSON to every parser, whatever lies in the workspace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from refdepth.cli.main import run
from refdepth.pipeline.files import hash_json


def test_status_prints_null_for_what_an_older_manifest_has_as_nan(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished / "scale" / "manifest.json"
    content = json.loads(path.read_text())
    content.pop("sha256_of_content")
    content["summary"]["median_residual"] = float("nan")
    path.write_text(json.dumps({**content, "sha256_of_content": hash_json(content)}))
    assert run(["status", str(finished), "--json"]) == 0
    status = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    scale = next(row for row in status["stages"] if row["stage"] == "scale")
    assert scale["summary"]["median_residual"] is None
    assert scale["summary"]["headline"] == "fitted"
