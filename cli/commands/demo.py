"""`refdepth demo`: a synthetic room, photographed, reconstructed and compared with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import (
    Cluster,
    Debug,
    Quiet,
    Wait,
    Workers,
    device_option,
    given_again,
    parse_workers,
    renderer_option,
)


def demo(
    out: Annotated[Path, typer.Argument(help="Output folder.")] = Path("out/demo"),
    quality: Annotated[
        str | None,
        typer.Option(
            help="Time for accuracy: fast, balanced, high or paper. \\[default: balanced]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed furnishes another room.")] = 0,
    renderer: Annotated[str | None, renderer_option()] = None,
    device: Annotated[str | None, device_option()] = None,
    workers: Workers = None,
    cluster: Cluster = None,
    wait: Wait = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Photograph a synthetic room, reconstruct it, and print the errors of the depth.

    The photos go to OUT/photos, the exact depth to OUT/exact; the built-in sweep gives the prior,
    so that nothing has to be downloaded.
    """
    from refdepth.cli.console import out as console
    from refdepth.cli.session import report_on, working_on
    from refdepth.cli.summary import print_summary
    from refdepth.cli.tables import print_evaluation
    from refdepth.pipeline.api import output_folder, quality_of
    from refdepth.pipeline.config import RunInputs, RunRequest, build_config
    from refdepth.pipeline.evaluate import evaluate_workspace
    from refdepth.pipeline.files import resource_error
    from refdepth.synthetic import make_scene

    settings = build_config(
        quality=None if quality is None else quality_of(quality),
        options={
            "depth.model": "sweep",
            "runtime.renderer": renderer,
            "runtime.device": device,
            "runtime.workers": parse_workers(workers),
        },
    )
    workspace = output_folder(out)
    photos, exact = workspace.root / "photos", workspace.root / "exact"
    scene = make_scene("room", seed=seed)
    request = RunRequest(inputs=RunInputs(images=str(photos)), config=settings)
    with working_on(
        workspace,
        request,
        quiet=quiet,
        debug=debug,
        wait=wait,
        go_on=given_again(),
        cluster=cluster,
    ) as engine:
        try:
            scene.write_photos(photos)
            scene.write_ground_truth(exact)
        except OSError as error:
            raise resource_error(error, workspace.root) from error
        console.print(f"Photographed a synthetic room: {len(scene.views)} photos.")
        statuses = engine.reconstruct()
        report_on(engine)
    print_summary(workspace, statuses)
    print_evaluation(evaluate_workspace(workspace, exact))
