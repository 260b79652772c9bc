"""A finetuning run with all strong augmentations: killed in the middle it has the bits of one that was not."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from support.small_runs import SendSignal, assert_same_bits, finetune_run, make_images
from underpaint.data.augment.options import Augment
from underpaint.data.dataset import ImageData
from underpaint.run import Run, execute
from underpaint.training.signals import Interrupted

AUGMENT = Augment(rand="rand-m9-mstd0.5-inc1", erase=0.5, mixup=0.8, cutmix=1.0, mix_group=4)


def augmented(images: Path, augment: Augment = AUGMENT) -> Run:
    run = finetune_run(images, steps=8)
    assert isinstance(run.data, ImageData)
    return replace(run, data=replace(run.data, augment=augment))


@pytest.mark.slow
def test_an_augmented_run_that_was_stopped_has_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", 80)
    execute(augmented(images), tmp_path / "whole")
    stopped = replace(augmented(images), evals=(SendSignal(number=signal.SIGTERM),))
    with pytest.raises(Interrupted):
        execute(stopped, tmp_path / "stopped")
    execute(augmented(images), tmp_path / "stopped")
    assert_same_bits(tmp_path / "whole", tmp_path / "stopped")
    with pytest.raises(ValueError, match=r"another configuration \(data.augment.erase: was 0.5, is 0.25"):
        execute(augmented(images, replace(AUGMENT, erase=0.25)), tmp_path / "whole")
