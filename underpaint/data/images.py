"""Read images as training does, for scripts and notebooks: ``decode`` and what it raises."""

from underpaint.data.decode.image import decode
from underpaint.data.decode.limits import BadImage

__all__ = ["BadImage", "decode"]
