"""Frames of videos that a classifier answered rightly and wrongly, for a page."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from underpaint import files, keyed_random
from underpaint.core import ClipInput
from underpaint.data.decode.limits import BadImage
from underpaint.data.video.decoding import open_video
from underpaint.data.video.sampling import evaluation_frames
from underpaint.evals.predictions import Predictions
from underpaint.results.filmstrips import FILMSTRIPS_FILE, FORMAT, Filmstrip, Filmstrips

DRAWN = 8
"""Videos that are drawn at random."""
SUREST = 8
"""Further videos, those of the surest mistakes."""
FRAMES = 6
"""Frames of a strip."""
SIDE = 160
"""Short side of a frame in pixels at most."""
MISTAKES = 20
"""Pairs of classes that are listed."""


def write_filmstrips(folder: Path, *, root: Path, predictions: Predictions, form: ClipInput) -> None:
    """Write FILMSTRIPS_FILE and small JPEGs into ``folder``; the frames are those of the middle clip, uncropped."""
    folder.mkdir(exist_ok=True)
    strips: list[Filmstrip] = []
    for place, drawn in _chosen(predictions):
        predicted = predictions.predicted[place]
        try:
            frames = _frames(root / predictions.image[place], form)
        except (BadImage, OSError):
            continue
        names = [f"{len(strips)}-{number}.jpg" for number in range(len(frames))]
        for name, frame in zip(names, frames, strict=True):
            files.write_bytes(folder / name, _jpeg(frame))
        assert predicted is not None, predictions.image[place]
        strips.append(
            {
                "frames": names,
                "path": predictions.image[place],
                "label": predictions.label[place],
                "predicted": predicted,
                "probability": predictions.probability[place],
                "drawn": drawn,
            }
        )
    pairs = Counter((label, answer) for label, answer in _answers(predictions) if answer is not None)
    wrong = [(label, answer, count) for (label, answer), count in pairs.most_common() if label != answer]
    record: Filmstrips = {
        "format": FORMAT,
        "dataset": predictions.dataset,
        "view": predictions.view,
        "right": sum(label == answer for label, answer in _answers(predictions)),
        "unread": sum(answer is None for answer in predictions.predicted),
        "videos": len(predictions.image),
        "strips": strips,
        "mistakes": [{"label": label, "predicted": answer, "videos": n} for label, answer, n in wrong[:MISTAKES]],
    }
    files.write_json(folder / FILMSTRIPS_FILE, record)


def _answers(predictions: Predictions) -> list[tuple[str, str | None]]:
    return list(zip(predictions.label, predictions.predicted, strict=True))


def _chosen(predictions: Predictions) -> list[tuple[int, bool]]:
    """Places of the videos to show, and whether each was drawn at random."""
    key = keyed_random.key(0, "filmstrips")
    answers = _answers(predictions)
    read = [place for place, (_, answer) in enumerate(answers) if answer is not None]
    ordered = sorted(read, key=lambda place: keyed_random.key(key, predictions.image[place]))
    drawn, rest = ordered[:DRAWN], ordered[DRAWN:]
    wrong = [place for place in rest if answers[place][0] != answers[place][1]]
    surest = sorted(wrong, key=lambda place: -predictions.probability[place])[:SUREST]
    return [(place, True) for place in drawn] + [(place, False) for place in surest]


def _frames(path: Path, form: ClipInput) -> UInt8[Tensor, "t c h w"]:
    """A few frames of the clip in the middle, from its first to its last."""
    with open_video(path) as video:
        numbers = evaluation_frames(form, video.frames, clip=0, clips=1)
        count = min(FRAMES, len(numbers))
        shown = [numbers[round(place * (len(numbers) - 1) / max(1, count - 1))] for place in range(count)]
        return video.read(shown, short_side=SIDE)


def _jpeg(frame: UInt8[Tensor, "c h w"]) -> bytes:
    from PIL import Image

    content = BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(content, "JPEG", quality=80)
    return content.getvalue()
