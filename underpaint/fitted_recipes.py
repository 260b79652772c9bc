"""Recipes fitted to images, machine and minutes: ``underpaint train mae --data FOLDER``, and the commands of ``look``.

The rule. NETWORKS are tried from small to large, each timed for some steps on this machine. The largest is taken that

* in the time sees ``VIEWS`` views of every image, and one for every ``PARAMETERS`` of its parameters, of at most
  ``EPOCHS`` views of an image;
* is not larger in pixels than the images;
* does not need more than ``PATIENCE`` seconds to be timed.

The budget fills the time. A batch is the recipe's, or the largest power of two with ``STEPS`` steps in the budget and
two batches in the images; the warm-up is a tenth. The state is saved and the held-out loss measured at least every
``SAVE_SECONDS``. JPEGs are decoded small (``data.decoding=scaled``) where that is faster for the images that are
tried and their views stay within its bound (``Images.by_rule``). Labels need ``MIN_COUNT`` images, or one where fewer
than ``FEW_LABELS`` labels have so many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from underpaint import config, recipes
from underpaint.core import DataInfo
from underpaint.data.dataset import ImageData
from underpaint.data.reading_time import Images
from underpaint.data.shards.lanes import Lanes
from underpaint.models.weights import FORM, read_encoder_config
from underpaint.run import Run
from underpaint.run.declare import encoder_of
from underpaint.run.idle_fields import idle_fields, override_run
from underpaint.studies.cost import measure
from underpaint.training.devices import choose_device, usual_workers

Stage = Literal["mae", "wsp"]
STAGES: tuple[Stage, ...] = ("mae", "wsp")
MINUTES = 180.0
"""An evening."""
EPOCHS = 800
"""Most views of each image, as the published runs of MAE have."""
VIEWS = 20
"""Fewest views of each image for a larger network, as the recipe `mae_small` has."""
PARAMETERS = 6
"""Most parameters for each view, as in the recipe `mae_small`."""
STEPS = 500
"""Fewest steps for a larger batch, as in the recipe `mae_laptop`."""
SMALL_BATCH = 8
"""Batch that is not made smaller for the sake of more steps."""
SAVE_SECONDS = 300
PATIENCE = 30.0
"""Most seconds that timing a network may be expected to take."""
MIN_COUNT = 5
"""Fewest images of a label, as in the recipe `wsp_laptop`."""
FEW_LABELS = 10


@dataclass(frozen=True, kw_only=True)
class Network:
    """An encoder, and a decoder for MAE, as a recipe of each stage with some of its fields changed."""

    recipe: str
    """Name of the recipe behind that of the stage: ``small`` of ``mae_small`` and ``wsp_small``."""
    encoder: tuple[str, ...] = ()
    decoder: tuple[str, ...] = ()

    def fields(self, stage: Stage) -> tuple[str, ...]:
        """Fields that differ from those of the recipe."""
        return (*self.encoder, *(self.decoder if stage == "mae" else ()))


NETWORKS = (
    Network(recipe="laptop"),
    Network(recipe="small"),
    Network(recipe="small", encoder=("objective.encoder.size=96,96",)),
    Network(
        recipe="vit_b16",
        encoder=("objective.encoder.width=384", "objective.encoder.heads=6", "precision=fastest"),
        decoder=("objective.decoder.width=256", "objective.decoder.depth=4", "objective.decoder.heads=8"),
    ),
    Network(recipe="vit_b16", encoder=("precision=fastest",)),
)
"""Small to large; the fourth is ViT-S/16 with half of the published decoder."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A recipe with fields that fit it to images, and the time that they take here."""

    recipe: str
    fields: tuple[str, ...]
    network: Network
    device: str
    seconds: float
    """Expected seconds of training on this machine, with the reading of images and the held-out losses."""


def stage_of(name: str) -> Stage:
    """The stage of a name of ``STAGES``."""
    return next(stage for stage in STAGES if stage == name)


def name_of(folder: str) -> str:
    """The name of a folder as part of the names of runs on it."""
    return "".join(letter if letter.isalnum() else "_" for letter in Path(folder).resolve().name) or "images"


def fewest_images(counts: Sequence[int]) -> int:
    """Fewest images that a label must have, from the number of images of each."""
    return MIN_COUNT if sum(count >= MIN_COUNT for count in counts) >= FEW_LABELS else 1


def fit(
    stage: Stage,
    images: Images,
    *,
    seconds: float,
    given: Sequence[str],
    networks: Sequence[Network] = NETWORKS,
    ranks: int = 1,
) -> Fitted:
    """Fit a recipe of ``stage`` to images and seconds of training; ``given`` are fields that stay as they are.

    ``given`` names the data. With ``init_from`` the network is that of the encoder to start from.

    Raises:
        ValueError: for a field that cannot be set, fewer than two images, or an encoder of none of the ``networks``.
    """
    if images.count < 2:
        raise ValueError(f"{images.count} images are too few to train on; give at least 2")
    images = _decoded(stage, images, given)
    chosen: tuple[Network, Run, float] | None = None
    flop_seconds = 0.0
    data_info = DataInfo(seed=0, labels=tuple(map(str, range(max(images.labels, 2)))))
    for network in _startable(stage, networks, given):
        run = _run_of(stage, network, images, given)
        expected = flop_seconds * run.objective.flops_per_sample(data_info)
        if chosen and (
            max(encoder_of(run).size) > images.side or 6 * expected * run.budget.forward_size > PATIENCE  # with warm-up
        ):
            break
        try:
            step, parameters = measure(run, data_info)
        except torch.OutOfMemoryError:
            if chosen is None:
                raise
            break
        each = _with_reading(step, images, run) / ranks
        views = min(int(seconds / each), EPOCHS * images.count)
        if chosen and views < max(VIEWS * images.count, parameters // PARAMETERS):
            break
        chosen, flop_seconds = (network, run, each), step / run.objective.flops_per_sample(data_info)
    assert chosen is not None
    network, run, each = chosen
    usual = recipes.find_recipe(f"{stage}_{network.recipe}")()
    budget, samples = _budget(usual, run, images, each=each, seconds=seconds, given=given)
    often = _number("cadence.evaluate", (*given, *budget)) or usual.cadence.evaluate
    step = flop_seconds * run.objective.flops_per_sample(data_info)
    return Fitted(
        recipe=f"{stage}_{network.recipe}",
        fields=(*_not_given(network.fields(stage), given), *budget),
        network=network,
        device=choose_device(run.device).type,
        seconds=samples * each + images.heldout_seconds(-(-samples // often), step),
    )


def _decoded(stage: Stage, images: Images, given: Sequence[str]) -> Images:
    """The images with the decoding that is given; else scaled decoding by its rule, where it can be set."""
    if asked := _value("data.decoding", given):
        return replace(images, uses="scaled" if asked == "scaled" else "full")
    run = override_run(
        recipes.find_recipe(f"{stage}_laptop")(), [g for g in given if g.startswith("objective.encoder.value_range=")]
    )
    return images if "data.decoding" in idle_fields(run) else images.by_rule()


def _startable(stage: Stage, networks: Sequence[Network], given: Sequence[str]) -> list[Network]:
    """The networks whose encoder is that of ``init_from`` among the given fields; all of them without it."""
    start = _value("init_from", given)
    if not start:
        return list(networks)
    source = read_encoder_config(start)
    names = (*FORM, "size")
    runs = [(network, _sized(stage, network, given)) for network in networks]
    fitting = [
        network for network, run in runs if all(getattr(encoder_of(run), n) == getattr(source, n) for n in names)
    ]
    if not fitting:
        raise ValueError(
            f"init_from={start} has an encoder {source.width} wide with {source.depth} blocks for "
            f"{source.size[0]}x{source.size[1]} pixels, to which `train {stage}` fits no recipe; name a recipe instead"
        )
    return fitting


def _sized(stage: Stage, network: Network, given: Sequence[str]) -> Run:
    """The recipe with a network and what is given, in its own budget."""
    recipe = recipes.find_recipe(f"{stage}_{network.recipe}")()
    return override_run(recipe, [*network.fields(stage), *(each for each in given if not each.startswith("budget."))])


def _run_of(stage: Stage, network: Network, images: Images, given: Sequence[str]) -> Run:
    """The same in batches that the images fill twice."""
    run = _sized(stage, network, given)
    usual = run.budget.batch_size
    batch = _number("budget.batch_size", given) or min(usual, _power_of_two(images.count // 2))
    microbatch = min(run.budget.microbatch, batch)
    return replace(run, budget=replace(run.budget, batch_size=batch, microbatch=microbatch))


def _with_reading(step: float, images: Images, run: Run) -> float:
    """Seconds a sample: one after the other on a processor, side by side where workers read for an accelerator."""
    workers = _workers(run)
    return max(step, images.seconds / workers) if workers else step + images.seconds


def _workers(run: Run) -> int:
    return 0 if choose_device(run.device).type == "cpu" else usual_workers()


def _budget(
    usual: Run, run: Run, images: Images, *, each: float, seconds: float, given: Sequence[str]
) -> tuple[list[str], int]:
    """Fields in which the budget, and what depends on it, differ from the ``usual`` run, and the samples."""
    views = int(min(seconds / each, EPOCHS * images.count))
    batch = min(run.budget.batch_size, max(SMALL_BATCH, _power_of_two(views // STEPS)))
    batch = _number("budget.batch_size", given) or batch
    samples = _number("budget.samples", given) or max(10 * batch, views // batch * batch)
    fields = [f"budget.samples={samples}", f"budget.warmup={samples // 10}"]
    if epochs := _value("budget.epochs", given):
        samples, fields = round(float(epochs) * images.count), []
    if batch != usual.budget.batch_size:
        fields += [f"budget.batch_size={batch}", f"budget.microbatch={min(usual.budget.microbatch, batch)}"]
    if batch % Lanes().count and "data.lanes.count" not in idle_fields(run):
        fields.append(f"data.lanes.count={batch & -batch}")  # which divides the batch
    often = int(SAVE_SECONDS / each)
    if often < min(usual.cadence.save, samples):
        fields += [f"cadence.save={often}", f"cadence.evaluate={often}"]
        fields.append(f"cadence.log={min(usual.cadence.log, max(1, often // 30))}")
    if images.uses != "full":
        fields.append(f"data.decoding={images.uses}")
    assert isinstance(run.data, ImageData)
    if (workers := _workers(run)) != run.data.workers:
        fields.append(f"data.workers={workers}")
    return _not_given(fields, given), samples


def _not_given(fields: Sequence[str], given: Sequence[str]) -> list[str]:
    return [field for field in fields if not _value(field.partition("=")[0], given)]


def _value(name: str, given: Sequence[str]) -> str:
    """The last value of a field among the given ones; "" without it."""
    return next((each.partition("=")[2] for each in reversed(given) if each.partition("=")[0] == name), "")


def _number(name: str, given: Sequence[str]) -> int:
    """A whole number among the given fields; 0 without it."""
    text = _value(name, given)
    value = config.parse(text, int, name=name) if text else 0
    assert isinstance(value, int)
    return value


def _power_of_two(most: int) -> int:
    """The largest power of two up to ``most``; 1 where there is none."""
    return 1 << max(0, most.bit_length() - 1)
