"""XMP files beside images: which one an image has, and its content with predicted tags beside people's keywords."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from underpaint.data.decode.embedded_tags import Embedded, embedded_tags, keyword_properties, packet_tags
from underpaint.data.decode.packets import MAX_PACKET_BYTES, BadPacket
from underpaint.data.shards.tar import MAX_IMAGE_BYTES
from underpaint.tagging.packet import EMPTY, with_predicted
from underpaint.tags.keyword_paths import levels_of

_BESIDE = (".xmp", ".txt", ".json")
"""Files of the same stem that do not share a sidecar with the image."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """The content of one sidecar before and after."""

    sidecar: Path
    before: bytes | None
    """None where there is no such file."""
    mode: int | None
    changed: int
    """Permissions and time of change of the file before; None and 0 without one."""
    after: bytes
    written: int
    """Time of change of the file after, which stands in it, too."""
    predicted: tuple[str, ...]


def sidecar_of(image: Path) -> Path:
    """The sidecar of an image: ``x.jpg.xmp``, or ``x.xmp`` if that is there and belongs to no further file.

    Lightroom's ``x.xmp`` beside ``x.jpg`` and ``x.cr2`` describes both, so ``x.jpg`` gets one of its own.
    """
    own_sidecar, shared = image.with_name(f"{image.name}.xmp"), image.with_suffix(".xmp")
    if own_sidecar.exists() or not shared.exists():
        return own_sidecar
    others = [name for name in os.listdir(image.parent) if Path(name).stem == image.stem and name != image.name]
    return shared if all(name.lower().endswith(_BESIDE) for name in others) else own_sidecar


def planned_change(image: Path, labels: Sequence[str], *, model: str) -> Change | None:
    """The change that gives an image these predicted tags; None if it has them, or needs none.

    A label that people have given the image already, whatever the case of its letters, is not predicted again.

    Raises:
        BadPacket: if the sidecar cannot be changed without a loss; the message is the reason.
        OSError: if a file cannot be read.
    """
    sidecar = sidecar_of(image)
    if sidecar.is_symlink():
        raise BadPacket("the XMP file is a symbolic link")
    status = sidecar.stat() if sidecar.exists() else None
    if status is None and not labels:
        return None
    before = _packet(sidecar) if status else None
    with image.open("rb") as file:
        data = file.read(MAX_IMAGE_BYTES)
    earlier = packet_tags(before or b"")
    shared = image.with_suffix(".xmp")
    further = packet_tags(_packet(shared)) if shared != sidecar and shared.is_file() else Embedded(tags=())
    written_by_people = [tag for part in (embedded_tags(data), earlier, further) for tag in part.tags]
    said = {word.casefold() for tag in written_by_people for word in levels_of(tag)}
    predicted = tuple(label for label in labels if label.casefold() not in said)
    if set(predicted) == set(earlier.predicted):
        return None
    changed = status.st_mtime_ns if status else 0
    of_people = earlier.writing.changed_by_people(changed) if earlier.writing else changed
    written = time.time_ns()
    about = [f"written={written}", f"before={of_people}", f"model={model}"]
    return Change(
        sidecar=sidecar,
        before=before,
        mode=status.st_mode & 0o7777 if status else None,
        changed=changed,
        after=with_predicted(
            before if before and before.strip() else EMPTY, predicted, about=about, inside=keyword_properties(data)
        ),
        written=written,
        predicted=predicted,
    )


def _packet(sidecar: Path) -> bytes:
    """The content of an XMP file.

    Raises:
        BadPacket: if it is a folder or a pipe, or larger than any packet.
    """
    if not sidecar.is_file():
        raise BadPacket("in the place of the XMP file there is a folder, or something else that is not a file")
    if (size := sidecar.stat().st_size) > MAX_PACKET_BYTES:
        raise BadPacket(f"the XMP file has {size:,} bytes; at most {MAX_PACKET_BYTES:,} are read and changed")
    return sidecar.read_bytes()
