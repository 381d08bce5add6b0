"""What a run is told: inputs, and one group of settings a stage."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from refdepth.devices import DeviceName
from refdepth.errors import ConfigurationError
from refdepth.fusion.settings import FusionSettings, MeshSettings
from refdepth.ingest import PrepareSettings
from refdepth.priors.fit import ScaleSettings
from refdepth.priors.sweep import SweepSettings
from refdepth.refine.settings import RefineSettings
from refdepth.render.selection import RendererName
from refdepth.settings import Quality, Settings, setting
from refdepth.sfm.settings import SfmSettings
from refdepth.types.prior import PriorKind


class DepthSettings(Settings):
    """Where depth priors come from."""

    model: str = setting(
        "auto",
        "Depth network: a hub id, a local checkpoint folder, `sweep` (built in, no weights) or"
        " `auto` (Depth Anything V2 Small where it can be had, else sweep).",
    )
    revision: str | None = setting(
        None, "Revision of a hub model: a commit, tag or branch; none means the model's default."
    )
    kind: PriorKind | None = setting(
        None,
        "How values x of given depth maps relate to depth z: inverse_affine (1/z = a x + b),"
        " affine (z = a x + b) or metric (z = a x). A network's is read from its configuration: one"
        " that contradicts it is refused, one that it leaves open is taken.",
    )
    maps_unit: float | None = setting(
        None,
        "Metres in one unit of the values of given metric depth maps, of one level of 16-bit PNG:"
        " 0.001 for millimetres. None: not known, and no metres are claimed.",
        unit="m",
        gt=0,
    )
    sweep: SweepSettings = setting(SweepSettings(), "The built-in plane-sweep prior.", expert=True)


class RuntimeSettings(Settings):
    """How the work is done: a change makes nothing again, but for the seed.

    On the CPU nothing else changes a result. On CUDA networks run in half precision and sums have
    no fixed order: results agree closely with the CPU's and not to the bit, nor do two runs. Each
    view's record says which device and renderer made it.
    """

    device: DeviceName = setting(
        DeviceName.AUTO,
        "Where networks and renderer run; cuda and cpu agree closely, not to the bit.",
        affects_result=False,
    )
    renderer: RendererName = setting(
        RendererName.AUTO,
        "Renderer of the refinement: nvdiffrast needs CUDA; torch runs on any device, and not for"
        " `paper`; cpu runs anywhere. auto on a GPU: nvdiffrast where it works, else torch.",
        affects_result=False,
    )
    max_memory_gb: float | None = setting(
        None,
        "Memory that workers, caches and unmerged points are fitted to, all processes together;"
        " none: three quarters of what is free.",
        unit="GB",
        gt=0,
        affects_result=False,
    )
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = setting(
        "auto",
        "Processes that work on photos and views side by side; auto: as many as cores and memory"
        " allow and the work is worth.",
        affects_result=False,
    )
    cluster: str | None = setting(
        None,
        "Ray cluster that works on photos and views: HOST:PORT of its head, auto (the one this"
        " machine is part of) or local (started here, for the run). None: this machine alone.",
        affects_result=False,
        expert=True,
    )
    threads: int = setting(
        0,
        "Threads that find and match features and undistort photos; 0: one a core.",
        ge=0,
        affects_result=False,
    )
    seed: int = setting(0, "Seed of all random choices.", ge=0, lt=2**31)


class RunConfig(Settings):
    """All settings of a run."""

    prepare: PrepareSettings = setting(PrepareSettings(), "Reading the photos.")
    sfm: SfmSettings = setting(SfmSettings(), "Structure from motion.")
    depth: DepthSettings = setting(DepthSettings(), "Depth priors.")
    scale: ScaleSettings = setting(
        ScaleSettings(), "Fit of the priors to the SfM points.", expert=True
    )
    refine: RefineSettings = setting(RefineSettings(), "Refinement.")
    fuse: FusionSettings = setting(FusionSettings(), "Fusion into a cloud.")
    mesh: MeshSettings = setting(MeshSettings(), "The mesh that is exported; no stage reads it.")
    runtime: RuntimeSettings = setting(
        RuntimeSettings(), "Device, renderer, memory, workers and seed."
    )


class RunInputs(Settings):
    """Paths given from outside, absolute."""

    images: str = setting(..., "Folder of photos, or a video.")
    masks: str | None = setting(None, "Folder of masks, one a photo; zero means: do not use.")
    model: str | None = setting(None, "COLMAP model of the photos; SfM is skipped.")
    poses: str | None = setting(None, "transforms.json with poses; points are triangulated.")
    depth_maps: str | None = setting(None, "Folder of depth maps, one a photo.")
    normal_maps: str | None = setting(None, "Folder of surface normals, one a photo.")
    views: tuple[str, ...] = setting((), "Glob patterns of the views to refine; empty: all.")

    def path(self, field: str) -> Path | None:
        """The path in `field`, or None."""
        value = getattr(self, field)
        return None if value is None else Path(value)


class RunRequest(Settings):
    """What is asked of a workspace; remembered in it."""

    format: int = setting(1, "Version of this file's layout.", ge=1, le=1)
    inputs: RunInputs = setting(..., "Paths given from outside.")
    config: RunConfig = setting(RunConfig(), "All settings.")

    def for_command(self, **values: Any) -> RunRequest:
        """With other `RuntimeSettings` for one command, where values are given."""
        given = {name: value for name, value in values.items() if value is not None}
        runtime = self.config.runtime.model_copy(update=given)
        return self.model_copy(
            update={"config": self.config.model_copy(update={"runtime": runtime})}
        )


def build_config(
    *,
    quality: Quality | None = None,
    config_file: Path | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The settings of a run. Later ones win: defaults, `quality` preset, the TOML file, `options`
    (dotted field to value), `assignments` (`field.path=value` strings).

    Raises `ConfigurationError` naming the field, file or option at fault.
    """
    source = {} if config_file is None else _read_toml(config_file)
    chosen = source.pop("quality", None)
    if quality is None and chosen is not None:
        try:
            quality = Quality(chosen)
        except ValueError:
            raise ConfigurationError(
                f"quality is {chosen!r}.",
                subject=config_file,
                action=f"Use one of {', '.join(Quality)}.",
            ) from None
    values: dict[str, Any] = {}
    if quality is not None:
        values["refine"] = RefineSettings.preset(quality.value).model_dump()
    _merge(values, source)
    for field, value in (options or {}).items():
        if value is not None:
            _assign(values, field, value)
    for assignment in assignments:
        field, separator, text = assignment.partition("=")
        if not separator or not field.strip():
            raise ConfigurationError(
                "is not FIELD=VALUE.",
                subject=f"--set {assignment}",
                action="Write for example --set refine.iterations=12.",
            )
        _assign(values, field.strip(), _parse(text.strip()))
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise _explain(error, config_file) from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot be read ({error}).", subject=path, action="Give a readable TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"is not valid TOML ({error}).", subject=path, action="Correct the file."
        ) from error


def _parse(text: str) -> Any:
    """A TOML value where it is one, else the text itself: depth.model=sweep needs no quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        present = into.get(key)
        if isinstance(value, Mapping) and isinstance(present, dict):
            _merge(present, value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _assign(into: dict[str, Any], field: str, value: Any) -> None:
    *groups, name = field.split(".")
    nested: Any = value
    for key in (name, *reversed(groups)):
        nested = {key: nested}
    _merge(into, nested)


def _explain(error: ValidationError, config_file: Path | None) -> ConfigurationError:
    """The first complaint, with its field and what would be accepted."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    where = f"{field} ({config_file})" if config_file else field
    if first["type"] == "extra_forbidden":
        known = _known_fields(first["loc"][:-1])
        return ConfigurationError(
            "there is no such setting.",
            subject=where,
            action=f"Known here: {', '.join(known)}." if known else None,
        )
    setting_path = ".".join(part for part in first["loc"] if isinstance(part, str))
    return ConfigurationError(
        f"{first['msg']} (given: {first['input']!r}).",
        subject=where,
        action=f"`refdepth config {setting_path}` says what is accepted.",
    )


def _known_fields(path: Sequence[str | int]) -> list[str]:
    model: type[Settings] = RunConfig
    for part in path:
        field = model.model_fields.get(str(part))
        annotation = None if field is None else field.annotation
        if not (isinstance(annotation, type) and issubclass(annotation, Settings)):
            return []
        model = annotation
    return sorted(model.model_fields)
