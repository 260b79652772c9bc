"""Lines for people about tags that were predicted, and written or not yet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from underpaint.evals.label_thresholds import FEW, SEEN, UNSEEN, fewest_named
from underpaint.messages import counted, one_line
from underpaint.tagging.job import Tagging, TagOptions
from underpaint.tagging.journal import Undone

SHOWN = 3
LOWER = (0.8, 0.7, 0.6, 0.5)
"""Precisions that are tried where no label reaches the one that is asked for."""


def summary(result: Tagging, options: TagOptions) -> str:
    """Lines about the labels, the images and the sidecars of a call."""
    lines = [*_about_labels(result, options), *_about_images(result), *_about_sidecars(result)]
    return "\n".join([*lines, *([] if result.tags else [f"nothing to write: {_why_nothing(result, options)}"])])


def _about_labels(result: Tagging, options: TagOptions) -> list[str]:
    written = result.written_labels
    verdicts = Counter(label.verdict for label in result.thresholds if label.threshold is None)
    reasons = [
        f"{verdicts[SEEN]:,} never reach it" if verdicts[SEEN] else "",
        f"{verdicts[UNSEEN]:,} are not visible in pixels" if verdicts[UNSEEN] else "",
        f"{verdicts[FEW]:,} stand on too few images to tell" if verdicts[FEW] else "",
    ]
    lines = [
        f"precision {options.precision:.0%} on {counted(result.heldout_images, 'held-out image')} of {result.heldout}: "
        f"{len(written):,} of {counted(len(result.thresholds), 'label')} reach it"
        + "".join(f", {reason}" for reason in reasons if reason)
    ]
    if apart := result.precision_apart:
        lines.append(
            f"  by thresholds chosen on other held-out images: {apart.mean:.1%} of the tags are right "
            f"({apart.low:.1%} to {apart.high:.1%})"
        )
    return lines


def _why_nothing(result: Tagging, options: TagOptions) -> str:
    """The reason why no image gets a tag, and the way out."""
    if not result.images - len(result.problems):
        return "no image could be read"
    reach = {lower: sum(label.reachable >= lower for label in result.thresholds) for lower in LOWER}
    lower = next((each for each in LOWER if each < options.precision and reach[each]), None)
    way = f"--precision {lower} writes {counted(reach[lower], 'label')}" if lower else ""
    if result.written_labels:
        return f"no image here is as sure as the thresholds ask; {way or 'train longer'}"
    needed, most = fewest_named(options.precision), max((label.images for label in result.thresholds), default=0)
    if most < needed:
        return (
            f"even a label that is always right must be on {needed} held-out images for {options.precision:.0%}, and "
            f"the most frequent one is on {most}; name more images with tags that the model has not seen "
            f"(--heldout SOURCE){f', or {way}' if way else ''}"
        )
    if way:
        return f"the model is not that sure of any label; {way}, and longer training gives more"
    return f"no label reaches even {LOWER[-1]:.0%}: the model has learnt too little; train longer, or on more images"


def _about_images(result: Tagging) -> list[str]:
    lines = [f"{counted(result.tags, 'tag')} for {result.tagged:,} of {counted(result.images, 'image')}"]
    for reason, count in Counter(row["problem"] for row in result.problems).most_common(SHOWN):
        lines.append(f"  left alone {counted(count, 'time')}: {reason}")
    return [*lines, f"  tables: {result.out}/predicted.csv and labels.csv, both as .parquet too"]


def _about_sidecars(result: Tagging) -> list[str]:
    if not result.created + result.changed + result.unchanged + len(result.left):
        return []
    wrote, changed = ("wrote", "changed") if result.applied else ("would write", "change")
    lines = [f"{wrote} {counted(result.created, 'new XMP file')} and {changed} {result.changed:,}"]
    if result.unchanged:
        lines[0] += f"; {counted(result.unchanged, 'image')} had their tags already"
    lines += [f"  {one_line(change.sidecar)}: {', '.join(change.predicted)}" for change in result.examples[:SHOWN]]
    for reason, count in Counter(result.left.values()).most_common():
        path = next(path for path, given in result.left.items() if given == reason)
        others = f", and {counted(count - 1, 'other')}" if count > 1 else ""
        lines.append(f"  left as it was: {one_line(path)}{others}: {reason}")
    if result.applied:
        return [*lines, "to take them back: the same command with --undo instead of --apply"]
    return [*lines, "nothing is written yet: add --apply"]


def summary_of_undo(undone: Undone, out: Path) -> str:
    """Lines about the sidecars that are as before again, and those that are not."""
    lines = [
        f"restored {counted(undone.restored, 'XMP file')}, deleted {undone.deleted:,} that had not been there; "
        f"{undone.untouched:,} were as before already"
    ]
    if undone.kept:
        example = one_line(undone.kept[0])
        lines.append(
            f"{len(undone.kept):,} were changed by somebody since and stay as they are, such as {example}: "
            f"delete the keyword underpaint there; their former contents are in {out}/undone-*"
        )
    return "\n".join(lines)
