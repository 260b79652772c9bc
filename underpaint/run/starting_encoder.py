"""Whether the encoder that a run starts from fits it, looked at before anything is read, written or trained."""

from __future__ import annotations

from underpaint.models.weights import encoder_folder, read_encoder_config, require_same_form
from underpaint.run.declare import HasEncoder, Run


def require_fitting_start(run: Run, *, planned: bool = False) -> None:
    """Look at the shapes and the config of ``run.init_from``; of its values none is read.

    A run that is ``planned`` may start from a folder of another machine, or from a run that has not finished.

    Raises:
        ValueError: if there is no encoder, it is damaged, or it has another architecture than the run's.
    """
    if not run.init_from or (planned and not _is_there(run.init_from)):
        return
    source = read_encoder_config(run.init_from)
    if isinstance(run.objective, HasEncoder):
        start = f"the encoder of init_from={run.init_from}"
        require_same_form(run.objective.encoder, source, start=start)


def _is_there(folder: str) -> bool:
    try:
        encoder_folder(folder)
    except ValueError:
        return False
    return True
