"""Reading of images as in training, for scripts and notebooks: ``decode`` and the exception ``BadImage``."""

from underpaint.data.decode.image import decode
from underpaint.data.decode.limits import BadImage

__all__ = ["BadImage", "decode"]
