"""Very large and very thin images in every view: in bounded memory, beside others that are read as always."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from support.image_files import encoded
from underpaint.core import ImageInput
from underpaint.data.decode import transforms
from underpaint.data.decode.limits import MAX_SIDE
from underpaint.data.decode.transforms import eval_view, train_view
from underpaint.data.loader import read_files
from underpaint.data.near_duplicates.fingerprints import fingerprint

EIGHT = (0.0, 255.0)


def format_of(view: str, interpolation: str = "bicubic") -> ImageInput:
    plain = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": interpolation, "crop_share": 0.875}
    return ImageInput(size=(224, 224), channels=3, value_range=EIGHT, view=view, **plain)  # pyright: ignore


@pytest.mark.parametrize("size", [(MAX_SIDE, 1), (1, MAX_SIDE), (MAX_SIDE, 3), (2, 1), (9_000, 300)])
@pytest.mark.parametrize("view", ["stretch", "crop"])
def test_thin_images_are_read_in_every_view(tmp_path: Path, size: tuple[int, int], view: str) -> None:
    (tmp_path / "thin.png").write_bytes(encoded(Image.new("RGB", size, (255, 0, 51))))
    image, problems = read_files([tmp_path / "thin.png"], format=format_of(view))
    assert problems == [""]
    assert torch.allclose(image[0].amax((1, 2)), torch.tensor([1, 0, 0.2]), atol=1e-5)
    assert torch.allclose(image[0].amin((1, 2)), torch.tensor([1, 0, 0.2]), atol=1e-5)
    pixels = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    assert train_view(pixels, size=(224, 224), scale=(0.2, 1.0), flip=True, seed=1).shape == (3, 224, 224)
    assert fingerprint([(tmp_path / "thin.png").read_bytes()]).problems == ("",)


@pytest.mark.parametrize(("strip", "size"), [(6_299, (32, 32)), (700, (32, 32)), (69, (120, 40)), (700, (40, 100))])
def test_large_images_are_resized_strip_by_strip_to_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, strip: int, size: tuple[int, int]
) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 90, 70)).astype(np.uint8))
    whole = F.interpolate(pixels[None] / 255, size=size, mode="bicubic", align_corners=False, antialias=True)
    monkeypatch.setattr(transforms, "STRIP", strip)
    assert torch.equal(eval_view(pixels, size=size), whole[0].clamp(0, 1))


@pytest.mark.slow
def test_a_batch_of_the_largest_images_takes_the_memory_of_one(tmp_path: Path) -> None:
    """In a process of its own: the kernel counts the most memory that it ever held, in all threads."""
    (tmp_path / "large.png").write_bytes(encoded(Image.new("L", (9_000, 11_000), 128)))
    program = f"""
        import resource
        from pathlib import Path
        from underpaint.core import ImageInput
        from underpaint.data.loader import read_files

        form = ImageInput(size=(64, 64), channels=3, value_range=(0.0, 255.0), mean=(0.0,) * 3, std=(1.0,) * 3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        image, problems = read_files([Path({str(tmp_path / "large.png")!r})] * 4, format=form)
        assert problems == [""] * 4
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    shown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(shown.stdout) < 1_300  # MiB: Pillow's 4 bytes a pixel, their copy, the planes
