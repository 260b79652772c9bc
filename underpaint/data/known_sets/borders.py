"""Files whose images have a border that must not be shown, as ObjectNet's red one."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageOps

from underpaint.data.decode.image import decoding
from underpaint.data.decode.limits import check_pixels
from underpaint.data.source import Files


@dataclass(frozen=True)
class WithoutBorder:
    """The files of a source, each image without so many pixels of each side, as an uncompressed PNG."""

    files: Files
    border: int

    def read(self, path: str) -> bytes:
        """Bytes of the image; raises BadImage where it cannot be decoded, or nothing is left of it."""
        with decoding(), Image.open(BytesIO(self.files.read(path)), formats=("PNG", "JPEG")) as image:
            check_pixels(*image.size)
            whole = ImageOps.exif_transpose(image).convert("RGB")
            left = self.border, self.border, whole.width - self.border, whole.height - self.border
            check_pixels(left[2] - left[0], left[3] - left[1])
            content = BytesIO()
            whole.crop(left).save(content, "PNG", compress_level=0)
            return content.getvalue()

    def stamp(self, path: str) -> list[int | str]:
        size, changed = self.files.stamp(path)
        return [size, f"{changed} without a border of {self.border}"]
