"""Advice where the classes of a folder's images cannot be told from its layout."""

from __future__ import annotations

from underpaint.data.source import Source, one_outer_folder
from underpaint.data.splits import SPLIT_NAMES, split_folders, unread_halves


def layout_advice(source: Source) -> str:
    """A sentence that says why no image of a folder has a class, and the fix; "" where its layout does not show it."""
    return _advice_on_halves(source) or _advice_on_one_class(source) or _advice_on_outer_folder(source)


def _advice_on_halves(source: Source) -> str:
    """Advice where folders look like training and test images, and are not read as such."""
    halves = unread_halves(source.path)
    if halves is None:
        return ""
    first = {path.partition("/")[0] + "/" * ("/" in path) for path in source.path}
    beside = sorted(name for name in first if not name.endswith("/") or name[:-1].lower() not in SPLIT_NAMES)
    reason = (
        f"{beside[0]} lies beside them" if beside else "folders of classes are looked for in train/ and val/ or test/"
    )
    train, test = (source.root / name for name in halves)
    return (
        f"{halves[0]}/ and {halves[1]}/ may be training and test images, but {reason}; name the two as "
        f"train={train},val={test}, or give a labels file with the columns path, class and split"
    )


def _advice_on_one_class(source: Source) -> str:
    """Advice where train/ and val/ or test/ hold one folder of images alone."""
    if not split_folders(source.path):
        return ""
    inner = {path.split("/")[1] for path in source.path if path.count("/") > 1}
    if len(inner) != 1:
        return ""
    return f"it has one folder of classes, {min(inner)!r}, and needs two or more"


def _advice_on_outer_folder(source: Source) -> str:
    """The folder to give instead, if all images lie in an outer one."""
    outer = one_outer_folder(source)
    advice = "give this folder, if those in it are classes, or a set as NAME:FOLDER"
    return f"all images lie in {outer}; {advice}" if outer else ""
