"""The plan of a run: does it fit, how is it best laid out, how long does it take, what does it cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch

from underpaint import recipes
from underpaint.config import Overrides, assignments
from underpaint.core import BoxInput, DataInfo, LabelInput
from underpaint.data.dataset import ImageData
from underpaint.data.detection.dataset import DetectionData
from underpaint.data.reading_time import READ, Images
from underpaint.data.video.dataset import VideoData
from underpaint.plan.accelerators import FRAGMENTATION, GIB, GPUS, LINK_SHARE, Device, find_device
from underpaint.plan.duration import StepTime, step_time
from underpaint.plan.given_images import given_images
from underpaint.plan.memory import Memory, memory
from underpaint.plan.parallel_layout import NODE, Kind, Layout, possible
from underpaint.plan.parameters import Parameters, assumed_data, parameters
from underpaint.plan.rates import rates_here
from underpaint.run import Run
from underpaint.run.declare import NeedsWholeBatch
from underpaint.run.idle_fields import override_run
from underpaint.run.precision import block_timing
from underpaint.run.starting_encoder import require_fitting_start

FORMAT = 1
JPEG_BYTES = 110_000
"""Mean size of one image file, about that of ImageNet's: an assumption."""
VIDEO_BYTES = 520_000
"""Mean size of one video file, that of Kinetics-400 at 340 pixels (135 GB): an assumption."""
CLASSES = 1_000
"""Labels where the run does not say how many its data has: an assumption."""
COCO_CLASSES, LVIS_CLASSES = 80, 1_203
"""Classes of a detector; those of LVIS where images of rare ones are repeated, as its recipes do: an assumption."""
K400_CLASSES, SSV2_CLASSES = 400, 174
"""Classes of videos; those of Something-Something where none is mirrored, as its recipes do: an assumption."""
MORE_GPUS = tuple(2**power for power in range(1, 13))
SLOWER = 1.05
"""A simpler layout is kept unless another is quicker by more than this."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Needs of a run; bytes are those of one rank, and ``memory`` is as torch's allocator counts it."""

    recipe: str
    device: Device
    layout: Layout
    microbatch: int  # the largest that fits, unless it was given
    memory: Memory
    params: int
    flops_per_sample: int
    samples: int
    batch_size: int
    step: StepTime
    reading: float  # seconds of a step, where images are given
    evaluating: float  # seconds of all held-out losses, likewise
    price: float  # of one GPU-hour
    data_bytes: int
    assumptions: tuple[str, ...]
    fields: tuple[str, ...] = ()  # what of the recipe was changed, as on the command line

    @property
    def accumulation(self) -> int:
        return self.batch_size // (self.microbatch * self.layout.ranks)

    @property
    def seconds(self) -> float:
        return (self.step.seconds + self.reading) * (self.samples // self.batch_size) + self.evaluating

    @property
    def gpu_hours(self) -> float:
        return self.seconds * self.layout.ranks / 3600

    @property
    def cost(self) -> float:
        return self.gpu_hours * self.price

    @property
    def fits(self) -> bool:
        return self.memory.peak <= self.device.usable

    def record(self) -> dict[str, object]:
        """The plan as JSON values."""
        parts = asdict(self.memory)
        moment = parts.pop("moment")
        return {
            "format": FORMAT,
            "recipe": self.recipe,
            "device": self.device.name,
            "gpus": self.layout.ranks,
            "params": self.params,
            "flops_per_sample": self.flops_per_sample,
            "samples": self.samples,
            "batch_size": self.batch_size,
            "memory_bytes": parts,
            "memory_usable": self.device.usable,
            "peak_moment": moment,
            "seconds": self.seconds,
            "step_seconds": asdict(self.step),
            "reading_seconds": self.reading,
            "evaluation_seconds": self.evaluating,
            "gpu_hours": self.gpu_hours,
            "cost": self.cost,
            "data_bytes": self.data_bytes,
            "microbatch": self.microbatch,
            "accumulation": self.accumulation,
            "layout": self.layout.kind,
            "checkpointing": self.layout.checkpointing,
            "fits": self.fits,
            "assumptions": list(self.assumptions),
        }


LAID_OUT = ("parallel.layout", "parallel.checkpoint_activations", "budget.microbatch")
"""Fields of a run that a plan decides, unless they are given."""


def make_plan(
    run: Run | str,
    overrides: Overrides = (),
    *,
    gpus: int = 1,
    device: str = "cpu",
    samples: int | None = None,
    price: float = 0.0,
) -> Plan:
    """Plan a recipe (a name, ``module:function``, or a Run) on so many devices.

    ``overrides`` are ``field=value`` as for training; microbatch, layout and checkpointing are chosen where they are
    not among these.

    Raises:
        ValueError: for input the user can mend, among it a run that does not fit, with what would, and an encoder
            to start from that does not fit the run.
    """
    overrides = assignments(overrides)
    chosen = override_run(recipes.find_recipe(run)() if isinstance(run, str) else run, overrides)
    require_fitting_start(chosen, planned=True)
    given = {name: text for name, _, text in (assignment.partition("=") for assignment in overrides)}
    target = find_device(device)
    images = given_images(chosen) if target.is_cpu and {"data", "data.source"} & given.keys() else None
    if images:
        chosen = replace(chosen, budget=chosen.budget.for_images(images.count))
    if chosen.budget.epochs:
        raise ValueError(
            f"budget.epochs={chosen.budget.epochs:g}: a plan counts the images of a folder that is given, for this "
            f"machine alone; set data.source=FOLDER, or budget.samples instead"
        )
    if not 0 <= price < math.inf:
        raise ValueError(f"price={price} must not be negative, infinite or no number")
    fields = [f"{name}={text}" for name, text in given.items() if name not in LAID_OUT]
    if samples is not None:
        budget = replace(chosen.budget, samples=samples, warmup=min(chosen.budget.warmup, max(samples - 1, 0)))
        fields.append(f"budget.samples={samples}")
        fields += [f"budget.warmup={budget.warmup}"] if budget.warmup != chosen.budget.warmup else []
        chosen = replace(chosen, budget=budget)
    chosen, timing = _with_precision(chosen, target)
    if chosen.precision == "float8" and not target.float8:
        able = ", ".join(each.name for each in GPUS.values() if each.float8)
        raise ValueError(f"device={device} does not multiply in float8; those that do are {able}")
    parallel = chosen.parallel
    question = _Question.of(
        chosen,
        images=images,
        microbatch=chosen.budget.microbatch if "budget.microbatch" in given else None,
        layout=parallel.layout if "parallel.layout" in given else None,
        checkpointing=parallel.checkpoint_activations if "parallel.checkpoint_activations" in given else None,
    )
    answers = list(question.answers(gpus, target))
    if not answers:
        raise ValueError(question.refusal(gpus, target))
    best = answers[0]
    for answer in answers[1:]:
        if answer.seconds * SLOWER < best.seconds:
            best = answer
    return replace(best, price=price, fields=tuple(fields), assumptions=(*best.assumptions, *timing))


def _with_precision(run: Run, target: Device) -> tuple[Run, tuple[str, ...]]:
    """The run in the fastest precision where it asks for it, with a sentence on it: measured here, bf16 on a GPU."""
    if run.precision != "fastest":
        return run, ()
    if not target.is_cpu:
        return replace(run, precision="bf16"), (f"precision=fastest is bf16 on {target.name}",)
    timing = block_timing(run, torch.device("cpu"))
    chosen = replace(run, precision=timing.fastest)
    return chosen, (f"precision=fastest is {timing.fastest} on this machine: {timing}",)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A run, its images where they are given, and what of its layout is given."""

    run: Run
    images: Images | None
    parameters: Parameters
    data_info: DataInfo
    flops: int
    microbatch: int | None
    layout: Kind | None
    checkpointing: bool | None

    @classmethod
    def of(
        cls,
        run: Run,
        *,
        images: Images | None,
        microbatch: int | None,
        layout: Kind | None,
        checkpointing: bool | None,
    ) -> _Question:
        data_info = assumed_data(_labels(run))
        counted = parameters(run, data_info)
        return cls(
            run=run,
            images=images,
            parameters=counted,
            data_info=data_info,
            flops=run.objective.flops_per_sample(data_info),
            # another microbatch would be another BatchNorm
            microbatch=run.budget.microbatch if counted.batch_norm else microbatch,
            layout=layout,
            checkpointing=checkpointing,
        )

    def layouts(self, gpus: int) -> list[Layout]:
        if self.layout is not None:
            given = Layout(kind=self.layout, ranks=gpus)
            layouts = [given, replace(given, checkpointing=True)]
        else:
            layouts = possible(gpus)
        return [each for each in layouts if self.checkpointing in (None, each.checkpointing)]

    def microbatches(self, gpus: int) -> list[int]:
        """Those that divide each rank's part of the batch, the largest first."""
        batch = self.run.budget.batch_size
        if gpus < 1:
            raise ValueError(f"gpus={gpus} must be at least 1")
        share, rest = divmod(batch, gpus)
        if rest:
            divisors = [count for count in range(1, batch + 1) if batch % count == 0]
            near = " and ".join(map(str, sorted(sorted(divisors, key=lambda count: abs(count - gpus))[:2])))
            raise ValueError(f"gpus={gpus} does not divide budget.batch_size={batch}; {near} do")
        if isinstance(self.run.objective, NeedsWholeBatch):
            if self.microbatch not in (None, share):
                raise ValueError(f"the loss compares all pairs of a batch: make microbatch={self.microbatch} {share}")
            return [share]
        if self.microbatch is None:
            return [size for size in range(share, 0, -1) if share % size == 0]
        given = min(self.microbatch, share)  # as in training
        if share % given:
            raise ValueError(f"microbatch={given} does not divide the {share} samples of one of {gpus} GPUs")
        return [given]

    def needs(self, layout: Layout, microbatch: int, device: Device) -> Memory:
        cuda = not device.is_cpu
        return memory(self.run, self.parameters, layout, microbatch=microbatch, data_info=self.data_info, cuda=cuda)

    def answers(self, gpus: int, device: Device) -> Iterator[Plan]:
        """A plan for each layout that fits, with its largest microbatch."""
        for layout in self.layouts(gpus):
            for microbatch in self.microbatches(gpus):
                needed = self.needs(layout, microbatch, device)
                if needed.peak <= device.usable:
                    yield self._plan(layout, microbatch, device, needed)
                    break

    def fits(self, gpus: int, device: Device) -> bool:
        """Whether some layout does, with the smallest microbatch."""
        smallest = self.microbatches(gpus)[-1]
        return any(self.needs(layout, smallest, device).peak <= device.usable for layout in self.layouts(gpus))

    def refusal(self, gpus: int, device: Device) -> str:
        """Message that nothing fits, with the changes that would."""
        smallest = self.microbatches(gpus)[-1]
        peak, layout = min(
            ((self.needs(each, smallest, device).peak, each) for each in self.layouts(gpus)), key=lambda pair: pair[0]
        )
        would: list[str] = []
        if self.checkpointing is False and replace(self, checkpointing=None).fits(gpus, device):
            would.append("activation checkpointing")
        if self.microbatch is not None and replace(self, microbatch=None).fits(gpus, device):
            fitting = next(replace(self, microbatch=None).answers(gpus, device)).microbatch
            would.append(f"a microbatch of {fitting}")
        if self.layout is not None and replace(self, layout=None).fits(gpus, device):
            would.append("another layout")
        free = replace(self, layout=None, microbatch=None)
        fits, batch = partial(free.fits, device=device), self.run.budget.batch_size
        counts = (count for count in MORE_GPUS if count > gpus and batch % count == 0)
        would += [f"--gpus {count}" for count in itertools.islice(filter(fits, counts), 1)]
        others = [gpu.name for gpu in GPUS.values() if self.fits(gpus, gpu)]
        would += [f"--device {' or '.join(others)}"] if others else []
        return (
            f"{self.run.name} does not fit: it needs {peak / GIB:.1f} GiB on each of {gpus} {device.name} "
            f"({layout}, microbatch {smallest}), which has {device.usable / GIB:.1f} GiB to give; what would fit: "
            f"{'; '.join(would) or 'a smaller model'}"
        )

    def _plan(self, layout: Layout, microbatch: int, device: Device, needed: Memory) -> Plan:
        step = step_time(
            self.run,
            self.parameters,
            layout,
            device=device,
            microbatch=microbatch,
            data_info=self.data_info,
            flops=self.flops,
        )
        budget, images = self.run.budget, self.images
        samples, times = budget.steps * budget.batch_size, self.run.cadence.evaluations(budget)
        return Plan(
            recipe=self.run.name,
            device=device,
            layout=layout,
            microbatch=microbatch,
            memory=needed,
            params=self.parameters.size,
            flops_per_sample=self.flops,
            samples=samples,
            batch_size=budget.batch_size,
            step=step,
            reading=budget.batch_size * images.seconds if images else 0.0,
            evaluating=images.heldout_seconds(times, step.computing / budget.batch_size) if images else 0.0,
            price=0.0,
            data_bytes=samples * _bytes_of_sample(self.run),
            assumptions=tuple(self._assumptions(layout, device)),
        )

    def _assumptions(self, layout: Layout, device: Device) -> Iterator[str]:
        run = self.run
        if device.is_cpu:
            rates, threads = rates_here(), torch.get_num_threads()
            measured = f"measured them on {rates.date[:10]}, {rates.threads} threads"
            by = "a first plan briefly" if rates.is_brief else "`plan --calibrate`"
            yield f"rates of this machine as {by} {measured}"
            if rates.threads != threads:
                yield f"this process has {threads} threads: `plan --calibrate` would measure with these"
        else:
            yield f"{device.mfu:.0%} of the peak of {device.name} is reached in training ({run.settled_precision})"
            reserve = f"{device.reserve / GIB:.1f} GiB for driver and libraries"
            yield f"{reserve} and {FRAGMENTATION:.0%} lost to fragmentation are kept free"
        if run.settled_precision == "float8":
            yield "the rate of bf16, since what float8 gains has not been measured; memory as in bf16"
        if layout.ranks > 1:
            yield (
                f"nodes of {NODE} GPUs, {device.link * LINK_SHARE / 1e9:.0f} GB/s inside and "
                f"{device.network * LINK_SHARE / 1e9:.1f} GB/s a GPU between them, hidden behind computation"
            )
        yield self._reading()
        if isinstance(run.objective, NeedsWholeBatch):
            yield "the loss compares all pairs of a batch, so each rank takes its part of the batch at once"
        if self.parameters.batch_norm:
            yield f"the recipe's microbatch of {run.budget.microbatch} stays, since BatchNorm normalises over it"
        if any(isinstance(each, LabelInput) for each in run.objective.inputs.values()):
            yield f"{len(self.data_info.labels):,} labels"
        if isinstance(run.data, DetectionData):
            objects = next(each.most for each in run.objective.inputs.values() if isinstance(each, BoxInput))
            yield f"{len(self.data_info.labels):,} classes, and {objects} objects in each image"

    def _reading(self) -> str:
        """A sentence on the files, and on the time that they take."""
        if self.images is None:
            videos = isinstance(self.run.data, VideoData)
            size, each = (VIDEO_BYTES, "a video") if videos else (JPEG_BYTES, "an image")
            return f"{size / 1000:.0f} kB {each}; reading and decoding keep up"
        return (
            f"{self.images.seconds * 1e3:.3g} ms to read a view, measured on {min(READ, self.images.count)} of "
            f"{self.images.count:,} images; the loss of {self.images.heldout:,} held-out images "
            f"{self.run.cadence.evaluations(self.run.budget):,} times"
        )


def _labels(run: Run) -> int:
    """Number of labels of the head, as far as the recipe gives it; the data are not opened."""
    if isinstance(run.data, ImageData) and run.data.targets == "tags":
        return run.data.vocabulary_size
    if isinstance(run.data, DetectionData):
        return LVIS_CLASSES if run.data.repeat_threshold else COCO_CLASSES
    if isinstance(run.data, VideoData):
        return K400_CLASSES if run.data.flip else SSV2_CLASSES
    return CLASSES


def _bytes_of_sample(run: Run) -> int:
    """Bytes to read for a sample; views of one clip share them."""
    return VIDEO_BYTES // run.data.views if isinstance(run.data, VideoData) else JPEG_BYTES
