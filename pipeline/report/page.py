"""The page itself: collected facts through a template."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.executors import Executor, SerialExecutor
from refdepth.pipeline.files import write_bytes
from refdepth.pipeline.performing import perform
from refdepth.pipeline.progress import Progress, Silent
from refdepth.pipeline.report.collect import collect
from refdepth.pipeline.report.views import Descriptions, ViewReport
from refdepth.pipeline.results import Results
from refdepth.pipeline.views import errors_by_photo
from refdepth.pipeline.work import Watch
from refdepth.pipeline.workspace import Workspace
from refdepth.types.scene import Scene

if TYPE_CHECKING:
    from jinja2 import Template

_NAME = "report.html"
_TEMPLATES = Path(__file__).parent.parent / "templates"


def write_report(
    workspace: Workspace,
    executor: Executor | None = None,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Path:
    """Writes `OUT/report.html` from what lies in the workspace, finished or not; returns its path.

    Of many views those that stand out and a sample are drawn, the others are rows of a table: time
    and size grow by a line a view. `executor` draws (default: this process); the page does not
    depend on it. The file holds its pictures, loads nothing and runs no script. Names from outside
    are escaped.
    """
    show = progress or Silent()

    def describe(scene: Scene, names: Sequence[str]) -> dict[str, ViewReport]:
        watch = Watch(
            cancellation=cancellation or Cancellation(),
            progress=lambda done: show.step("drawing views", done, len(names)),
        )
        work = Descriptions.of(workspace, scene)
        with errors_by_photo(workspace):
            return perform(executor or SerialExecutor(), work, names, watch)

    report = collect(Results(workspace), describe)
    page = template().render(report=report)
    path = workspace.root / _NAME
    write_bytes(path, page.encode())
    return path


@functools.cache
def template() -> Template:
    """The page without facts, compiled once a process."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_NAME)
