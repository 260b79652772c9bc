"""The encoder that a run starts from: its shape, and whether it fits, before anything is read, written or trained."""

from __future__ import annotations

from dataclasses import replace

from underpaint.models.weights import FORM, encoder_folder, read_encoder_config, require_same_form
from underpaint.objectives.classify import LabelClassifierConfig
from underpaint.run.declare import ChecksStart, HasEncoder, Run

SHAPE = (*FORM, "value_range", "mean", "std")
"""Fields of an encoder's config that a run may take from the encoder it starts from."""


def with_shape_of_start(run: Run) -> Run:
    """The run with the encoder's shape, patch and normalisation of ``init_from``, where its objective asks for it.

    Nothing changes where there is no such folder, as when a run for another machine is planned.

    Raises:
        ValueError: if the encoder is damaged, or its patches do not divide the run's image size.
    """
    objective = run.objective
    if not (isinstance(objective, LabelClassifierConfig) and objective.shape_from_start and run.init_from):
        return run
    if not _is_there(run.init_from):
        return run
    source = read_encoder_config(run.init_from)
    encoder = replace(objective.encoder, **{name: getattr(source, name) for name in SHAPE})
    return replace(run, objective=replace(objective, encoder=encoder))


def require_fitting_start(run: Run, *, planned: bool = False) -> None:
    """Look at the shapes and the config of ``run.init_from``; of its values none is read.

    A run that is ``planned`` may start from a folder of another machine, or from a run that has not finished.

    Raises:
        ValueError: if there is no encoder, it is damaged, or it has another architecture than the run's.
    """
    if not run.init_from or (planned and not _is_there(run.init_from)):
        return
    source = read_encoder_config(run.init_from)
    start = f"the encoder of init_from={run.init_from}"
    if isinstance(run.objective, ChecksStart):
        run.objective.require_start(source, start=start)
    elif isinstance(run.objective, HasEncoder):
        require_same_form(run.objective.encoder, source, start=start)


def _is_there(folder: str) -> bool:
    try:
        encoder_folder(folder)
    except ValueError:
        return False
    return True
