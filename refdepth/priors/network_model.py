"""Reading a depth network from its files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from refdepth.errors import InputError
from refdepth.priors.checkpoints import Checkpoint
from refdepth.priors.network_kinds import licence_of

if TYPE_CHECKING:
    import torch

Preparation = TypeVar("Preparation")
logger = logging.getLogger(__name__)


def open_model(
    checkpoint: Checkpoint,
    open_preparation: Callable[[Path, Any], Preparation],
    *,
    device: str,
    dtype: torch.dtype,
    values: str,
) -> tuple[Any, Any, Preparation]:
    """A checkpoint's model on a device, its configuration, and what `open_preparation` makes of
    folder and configuration. Only safetensors are loaded and no code comes with a model. `values`
    says for the log what the model gives.

    Raises `InputError` for files that are no whole model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForDepthEstimation

    where = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(checkpoint.folder, **where)
        prepare = open_preparation(checkpoint.folder, config)
        with _quiet():
            model, report = AutoModelForDepthEstimation.from_pretrained(
                checkpoint.folder,
                use_safetensors=True,
                dtype=dtype,
                output_loading_info=True,
                **where,
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        # transformers raises ImportError, KeyError, OSError, ValueError, SafetensorError, ...
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"not a depth checkpoint that can be loaded ({reason}).",
            subject=checkpoint.folder,
            action="Give a depth-estimation model saved by transformers.",
        ) from error
    absent = sorted(report["missing_keys"])
    if absent:
        raise InputError(
            f"{len(absent)} weights are missing, {absent[0]} among them.",
            subject=checkpoint.folder,
            action="Give the complete checkpoint.",
        )
    logger.info(
        "loaded %s (%s, %s; %s) on %s",
        checkpoint.model,
        config.model_type,
        values,
        licence_of(checkpoint.model),
        device,
    )
    return model.to(device).eval(), config, prepare


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar: the run has its own."""
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
