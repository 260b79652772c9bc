"""Hashtags in the texts of posts, and counts of the posts that carry each, over Arrow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

ADDRESS = r"(?:https?://|www\.)\S+"
MARK = "[#\uff03]"
TAG = r"^(?P<tag>[\pL\pM\pN_\x{200c}\x{200d}]+)"
WORD_BEFORE = r"[\pL\pM\pN_&/]$"
"""End of a text after which a mark begins no hashtag: inside a word (C#), an address, or a reference (``&#39;``)."""


def hashtags(posts: Any) -> Any:
    """The hashtags of every post of a string array, without their marks, in order: a list array of strings.

    Letters, digits and underscores of all scripts belong to a hashtag; several may follow each other without a blank.
    A post that is null has none.
    """
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute
    text = compute.replace_substring_regex(posts.fill_null(""), ADDRESS, " ")
    pieces = compute.split_pattern_regex(text, MARK)
    piece = pieces.flatten()
    row = np.repeat(np.arange(len(posts)), compute.list_value_length(pieces).to_numpy())
    first = np.diff(row, prepend=-1) > 0
    tag = compute.struct_field(compute.extract_regex(piece, TAG), "tag")
    whole = compute.equal(compute.binary_length(tag), compute.binary_length(piece)).fill_null(False)
    inside = compute.match_substring_regex(piece, WORD_BEFORE).to_numpy(zero_copy_only=False)
    # the mark before a piece stands inside a word if the text before it ends in one that is no hashtag itself
    open_end = inside & (first | ~whole.to_numpy(zero_copy_only=False))
    chosen = ~first & ~np.concatenate([[False], open_end[:-1]]) & tag.is_valid().to_numpy(zero_copy_only=False)
    return _lists(row[chosen], tag.filter(pyarrow.array(chosen)), len(posts))


def count_tags(lists: Iterable[Any]) -> Any:
    """The number of rows, in all list arrays of strings, that carry each tag: a table of ``tag`` and ``count``.

    A tag that a row has twice counts once. The rows of the table are sorted by tag.
    """
    import pyarrow

    empty = pyarrow.table({"tag": pyarrow.array([], pyarrow.string()), "count": pyarrow.array([], pyarrow.int64())})
    counted = pyarrow.concat_tables([empty, *map(_count, lists)])
    summed = counted.group_by("tag", use_threads=False).aggregate([("count", "sum")])
    return summed.rename_columns({"tag": "tag", "count_sum": "count"}).select(["tag", "count"]).sort_by("tag")


def _count(tags: Any) -> Any:
    import pyarrow
    import pyarrow.compute

    compute: Any = pyarrow.compute
    encoded = tags.flatten().dictionary_encode()
    row = np.repeat(np.arange(len(tags)), compute.list_value_length(tags).fill_null(0).to_numpy())
    code = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    size = len(encoded.dictionary)
    distinct = np.unique((row * np.int64(max(size, 1)) + code)[code >= 0])
    count = np.bincount(distinct % max(size, 1), minlength=size)
    return pyarrow.table({"tag": encoded.dictionary, "count": pyarrow.array(count, pyarrow.int64())})


def _lists(row: np.ndarray, values: Any, rows: int) -> Any:
    """A list array from the ascending row of every value."""
    import pyarrow

    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    return pyarrow.ListArray.from_arrays(pyarrow.array(ends.astype(np.int32)), values)
