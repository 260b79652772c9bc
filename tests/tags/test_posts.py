"""Hashtags of posts against a loop over characters, and their counts against a Counter."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint.tags.posts import count_tags, hashtags


def is_word(mark: str) -> bool:
    return mark in "_\u200c\u200d" or unicodedata.category(mark)[0] in "LMN"


def by_loop(post: str) -> list[str]:
    """A mark opens a hashtag unless it stands right behind a word that is no hashtag itself, behind & or /."""
    found: list[str] = []
    for at, mark in enumerate(post):
        if mark not in "#\uff03":
            continue
        end = at + 1
        while end < len(post) and is_word(post[end]):
            end += 1
        start = at
        while start > 0 and is_word(post[start - 1]):
            start -= 1
        behind_hashtag = start < at and start > 0 and post[start - 1] in "#\uff03"
        behind_word = start < at and post[at - 1] not in "\u200c\u200d" and not behind_hashtag
        if end > at + 1 and not behind_word and not (at > 0 and post[at - 1] in "&/"):
            found.append(post[at + 1 : end])
    return found


@pytest.mark.parametrize(
    ("post", "tags"),
    [
        ("A #walk, a #brown_bear! #2024 #कार ＃日本語。", ["walk", "brown_bear", "2024", "कार", "日本語"]),
        ("#one#two ##three #", ["one", "two", "three"]),
        ("C#5, &#39;, a/#b https://a.example/#top www.a.example/#c #d", ["d"]),
        ("", []),
        (None, []),
    ],
)
def test_hashtags(post: str | None, tags: list[str]) -> None:
    assert hashtags(pyarrow.array([post], pyarrow.string())).to_pylist() == [tags]


@settings(max_examples=300, deadline=None)
@given(
    posts=st.lists(st.text(st.sampled_from("ab_1é日\u0301\u200d #＃&/,."), max_size=14), max_size=5),
    cut=st.integers(0, 4),
)
def test_hashtags_are_those_of_the_loop(posts: list[str], cut: int) -> None:
    found = hashtags(pyarrow.array(posts, pyarrow.string()).slice(cut)).to_pylist()
    assert found == [by_loop(post) for post in posts[cut:]]


def test_counts_are_of_posts() -> None:
    lists = [[["a", "b", "a"], None, []], [["b"], ["c", None, "c"]], []]
    arrays = [pyarrow.array(part, pyarrow.list_(pyarrow.string())) for part in lists]
    expected = Counter(tag for part in lists for own in part for tag in set(own or ()) - {None})
    assert count_tags(arrays).to_pylist() == [{"tag": tag, "count": expected[tag]} for tag in sorted(expected)]
    assert count_tags([]).num_rows == 0
