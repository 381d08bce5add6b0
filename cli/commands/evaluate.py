"""`refdepth evaluate`: a reconstruction against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refdepth.cli.options import Json


def evaluate(
    out: Annotated[Path, typer.Argument(help="Output folder of a reconstruction.")],
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            "--ground-truth",
            "-g",
            help="Folder of true depth (NAME.npz with depth, K, cam_from_world; 16-bit PNG; COLMAP"
            " depth maps), a reference cloud (.ply), or poses (.json). Without it, the confidence"
            " is judged at the SfM points that the refinement was not given.",
            show_default=False,
        ),
    ] = None,
    distance: Annotated[
        list[float] | None,
        typer.Option(
            help="Distance for the cloud's precision and recall, in the truth's unit; may be"
            " repeated. \\[default: 0.02 and 0.05]",
            show_default=False,
        ),
    ] = None,
    icp: Annotated[
        bool, typer.Option(help="Refine the cloud's alignment by ICP before comparing.")
    ] = True,
    png_scale: Annotated[
        float, typer.Option(help="Metres a level of 16-bit PNG depth.", min=0)
    ] = 0.001,
    metres_per_unit: Annotated[
        float | None,
        typer.Option(
            help="Length of the truth's unit, where it is not metres.", show_default=False
        ),
    ] = None,
    by_view: Annotated[bool, typer.Option("--by-view", help="Also list every view.")] = False,
    detailed: Annotated[
        bool,
        typer.Option("--detailed", help="Also the pixels known in every stage, and depth caps."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare depth maps, confidence and cloud with ground truth.

    One scale for the scene comes from the SfM points' depths; what was assumed is printed.
    """
    from refdepth.cli.console import out as console
    from refdepth.cli.tables import print_evaluation
    from refdepth.errors import InputError
    from refdepth.io.json_text import to_json
    from refdepth.pipeline.evaluate import evaluate_workspace
    from refdepth.pipeline.results import Results
    from refdepth.pipeline.workspace import Workspace

    if ground_truth is not None and not ground_truth.exists():
        raise InputError("does not exist.", subject=ground_truth, action="Check --ground-truth.")
    workspace = Workspace.find(out)
    result = evaluate_workspace(
        workspace,
        ground_truth,
        distances=distance,
        use_icp=icp,
        png_scale=png_scale,
        metres_per_unit=metres_per_unit,
    )
    if as_json:
        typer.echo(to_json(result))
    else:
        print_evaluation(result, by_view=by_view, detailed=detailed)
        if "depth" in result and "priors" in Results(workspace).dropped:
            console.print(
                "Without the scaled priors: `refdepth clean` has dropped them.", markup=False
            )
