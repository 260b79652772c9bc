"""Import a file of a published shape and print what it took: the file is sparse, the output is real.

    python benchmarks/import_large.py vit_2b14 [--clip] [--folder DIR]

``--clip`` makes it a MAWS-CLIP file with XLM-R and a tokenizer of 250,000 pieces. The disk must hold the output, with
``--clip`` the encoder twice; it is deleted at the end. Anonymous memory is what the process holds beside mapped files.
Exits with 1 if it was ever above 4 GiB.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from underpaint.models.formats import maws_clip
from underpaint.models.image_text import ImageText, ImageTextConfig
from underpaint.models.sizes import SIZES
from underpaint.models.text_tower import TextConfig
from underpaint.models.vit import ViT
from underpaint.weights.importing import import_weights

LARGE = TextConfig(width=1024, depth=24, heads=16)
CLIP = {
    "vit_b16": (TextConfig(), 768),
    "vit_l16": (LARGE, 1024),
    "vit_h14": (LARGE, 1024),
    "vit_2b14": (LARGE, 2048),
}
"""Text tower and width of the common space, as in the released files of MAWS-CLIP."""
LIMIT = 4 << 30
"""Bytes of anonymous memory that an import may take."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory and time of importing a file of a published shape")
    parser.add_argument("size", choices=[name for name in SIZES if name.endswith(("16", "14"))])
    parser.add_argument("--clip", action="store_true", help="with XLM-R")
    parser.add_argument("--folder", default=None, help="for a temporary folder in it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        source = Path(name) / f"{options.size}.pt"
        shapes = clip_shapes(options.size) if options.clip else encoder_shapes(options.size)
        with FakeTensorMode(), torch.serialization.skip_data(materialize_fake_tensors=True):
            torch.save({name: torch.empty(shape) for name, shape in shapes.items()}, source)
        if options.clip:
            (Path(name) / "sentencepiece.bpe.model").write_bytes(tokenizer(CLIP[options.size][0].vocabulary - 2))
        peak: list[int] = []
        started = time.perf_counter()
        with watched(peak):
            import_weights(source, Path(name) / "out")
        seconds = time.perf_counter() - started
        written = list((Path(name) / "out").rglob("*.safetensors"))
        print(
            f"{source.stat().st_size / 2**30:.1f} GiB: {max(peak) / 2**20:.0f} MiB of anonymous memory at most, "
            f"{seconds:.0f} s, {sum(path.stat().st_size for path in written) / 2**30:.1f} GiB in {len(written)} files"
        )
    return int(max(peak) > LIMIT)


def encoder_shapes(size: str) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {
            name: value.shape for name, value in ViT(replace(SIZES[size], positions="learned")).state_dict().items()
        }


def clip_shapes(size: str) -> dict[str, torch.Size]:
    text, width = CLIP[size]
    with torch.device("meta"):
        network = ImageText(ImageTextConfig(encoder=SIZES[size], text=text, width=width)).state_dict()
    return {rule.theirs[0]: network[rule.ours].shape for rule in maws_clip.rules(SIZES[size].depth, text.depth)}


def tokenizer(pieces: int) -> bytes:
    """A SentencePiece model of the right size: a small trained one, filled up with pieces that no text has."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    small = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]
        sentence_iterator=iter(["a photo of a dog"] * 9), model_writer=small, vocab_size=60, hard_vocab_limit=False
    )
    model = sentencepiece_model_pb2.ModelProto()  # pyright: ignore[reportAttributeAccessIssue]
    model.ParseFromString(small.getvalue())
    for number in range(pieces - len(model.pieces)):
        piece = model.pieces.add()
        piece.piece, piece.score = f"piece {number}", -20.0
    return model.SerializeToString()


@contextmanager
def watched(peak: list[int]) -> Iterator[None]:
    """Append the anonymous memory of this process, in bytes, every hundredth of a second."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            with open("/proc/self/status") as file:
                peak.append(next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon")))

    monitor = threading.Thread(target=watch)
    monitor.start()
    try:
        yield
    finally:
        done.set()
        monitor.join()


if __name__ == "__main__":
    sys.exit(main())
