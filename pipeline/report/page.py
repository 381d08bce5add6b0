"""The page itself: collected facts through a template."""

from __future__ import annotations

from pathlib import Path

from refdepth.pipeline.files import write_bytes
from refdepth.pipeline.report.collect import collect
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace

_NAME = "report.html"
_TEMPLATES = Path(__file__).parent.parent / "templates"


def write_report(workspace: Workspace) -> Path:
    """Writes `OUT/report.html` from what lies in the workspace, finished or not; returns its path.

    The file holds its pictures, loads nothing and runs no script. Names from outside are escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_NAME).render(report=collect(Results(workspace)))
    path = workspace.root / _NAME
    write_bytes(path, page.encode())
    return path
