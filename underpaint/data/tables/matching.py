"""Matching of a table's rows to images: a table written elsewhere seldom has the paths of the folder."""

from __future__ import annotations

import re
import unicodedata
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from underpaint.data.tables.tag_tables import TableRow

_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
LEAST_DIGITS = 6
"""Fewest digits of a key that is looked for within names: shorter ones are counters of cameras."""
DIGITS_OF_COPIES = 9
"""Fewest digits of a key that several names may have: sizes and copies of one photograph. Shorter ones may be dates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """The image that a path in a table refers to."""

    path: str
    """Path as the folder spells it; "" where no image matches, or several do."""
    by_end: bool = False
    """Whether only the ends of the two paths agree, as in a table written for another parent folder."""
    reason: str = ""
    """Reason why no image matches; "" where one does."""
    copies: tuple[str, ...] = ()
    """Further images that the row is about: those with the same number in their name."""


def match_rows(rows: Sequence[TableRow], known: Sequence[str]) -> list[Match]:
    """The match of each row of a table among the ``known`` images, by its paths, else by its keys.

    A key is a path without its extension, or the end of one; else a number within a name, as Flickr's files have it
    (``lake_5678901234_o.jpg``). Several names may have a long number: they are sizes and copies of one photograph.
    """
    by_path = match_paths([row.paths[0] if row.paths else "" for row in rows], known)
    # YFCC100M's rows name several places: the first that is there counts
    known_set = set(known)
    further = [
        "" if match.path else next((path for path in row.paths[1:] if path in known_set), "")
        for row, match in zip(rows, by_path, strict=True)
    ]
    stems: dict[str, list[str]] = defaultdict(list)
    for path in known:
        stems[str(PurePosixPath(path).with_suffix(""))].append(path)
    open_keys = [row.keys[0] if row.keys and not match.path else "" for row, match in zip(rows, by_path, strict=True)]
    by_key = match_paths(open_keys, stems) if any(open_keys) else [Match(path="")] * len(rows)
    by_key = _by_further_keys(rows, by_key, stems)
    return [
        _best(row, Match(path=another) if another else path_match, key_match, stems)
        for row, path_match, another, key_match in zip(rows, by_path, further, by_key, strict=True)
    ]


def _best(row: TableRow, by_path: Match, by_key: Match, stems: Mapping[str, Sequence[str]]) -> Match:
    """The match by a path if there is one, else that by a key; where there is none, the one with the reason."""
    if by_path.path:
        return by_path
    if by_key.path:
        return _of_stems(by_key, [stems[stem] for stem in (by_key.path, *by_key.copies)])
    return by_path if row.paths else by_key


def _by_further_keys(rows: Sequence[TableRow], by_key: Sequence[Match], stems: Iterable[str]) -> list[Match]:
    """The matches, and where there is none that of a further key, or of a key that is a number within a stem."""
    within: dict[str, set[str]] = defaultdict(set)
    for stem in stems if any(row.keys for row in rows) else ():
        name = PurePosixPath(stem).name
        for part in {name, *re.split(r"[^0-9A-Za-z]+", name)}:
            within[part].add(stem)

    def match_of(row: TableRow, match: Match) -> Match:
        numbers = [key for key in row.keys[:1] if re.fullmatch(f"[0-9]{{{LEAST_DIGITS},}}", key)]
        for key in (*row.keys[1:], *numbers):
            stems_of = sorted(within.get(key, ()))
            if match.path or not stems_of:
                continue
            if len(stems_of) == 1 or (key in numbers and len(key) >= DIGITS_OF_COPIES):
                return Match(path=stems_of[0], by_end=True, copies=tuple(stems_of[1:]))
            match = Match(path="", reason=f"may be {stems_of[0]} or {stems_of[1]}")
        return match

    return [match_of(row, match) for row, match in zip(rows, by_key, strict=True)]


def _of_stems(match: Match, of_stems: Sequence[Sequence[str]]) -> Match:
    paths = [path for of_stem in of_stems for path in of_stem]
    if len(paths) > 1 and not match.copies:
        return Match(path="", reason=f"may be {paths[0]} or {paths[1]}")
    return Match(path=paths[0], by_end=match.by_end, copies=tuple(paths[1:]))


def match_paths(written: Sequence[str], known: Iterable[str]) -> list[Match]:
    """The match of each written path among the ``known`` paths.

    A path matches one that is spelled alike, up to Unicode's normal forms, backslashes, percent-encoding and ``./``.
    Otherwise it matches where one path is the end of the other (an absolute path, a folder more or less), if no second
    image and no second row do so.
    """
    folder = _Folder(known)
    exact = [folder.find_exact(path) for path in written]
    taken = {path for path in exact if path}
    candidates = {
        number: folder.find_by_end(path) - taken
        for number, (path, match) in enumerate(zip(written, exact, strict=True))
        if not match
    }
    claims = Counter(
        path
        for path, _ in {(path, _spelled(written[number])) for number, paths in candidates.items() for path in paths}
    )
    matches: list[Match] = []
    for number, path in enumerate(exact):
        if path:
            matches.append(Match(path=path))
            continue
        matches.append(_the_only(sorted(candidates[number]), claims))
    return matches


def _the_only(candidates: list[str], claims: Counter[str]) -> Match:
    if not candidates:
        return Match(path="", reason="missing file")
    if len(candidates) > 1:
        return Match(path="", reason=f"may be {candidates[0]} or {candidates[1]}")
    if claims[candidates[0]] > 1:
        return Match(path="", reason=f"other rows end as {candidates[0]} does, too")
    return Match(path=candidates[0], by_end=True)


def spellings(path: str) -> Iterator[str]:
    """The path as it may be spelled in a folder, likeliest first: as it stands, with slashes, decoded."""
    plain = path.strip()
    forms = [plain, plain.removeprefix("file://")]
    if "\\" in plain:
        forms.append(plain.replace("\\", "/"))
    if _ESCAPED.search(plain):
        forms += [urllib.parse.unquote(forms[1]), urllib.parse.unquote_plus(forms[1])]
    yield from dict.fromkeys(_spelled(form) for form in forms)


def _spelled(path: str) -> str:
    """The path in NFC, without ``./`` and doubled slashes."""
    return unicodedata.normalize("NFC", str(PurePosixPath(path.strip())))


class _Folder:
    """The images of a folder by path and by file name."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = set(known)
        self.spelled: dict[str, list[str]] = defaultdict(list)
        self.by_name: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        for path in sorted(self.known):
            spelled = _spelled(path)
            self.spelled[spelled].append(path)
            parts = tuple(spelled.split("/"))
            self.by_name[parts[-1]].append((parts, path))

    def find_exact(self, written: str) -> str:
        if not written:
            return ""
        if written in self.known:
            return written
        return next((paths[0] for form in spellings(written) if len(paths := self.spelled.get(form, [])) == 1), "")

    def find_by_end(self, written: str) -> set[str]:
        for form in spellings(written):
            if ".." in (parts := tuple(part for part in form.split("/") if part)):
                continue
            paths = {path for known, path in self.by_name.get(parts[-1] if parts else "", ()) if _ends(known, parts)}
            if paths:
                return paths
        return set()


def _ends(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether one path is the end of the other."""
    shorter = min(len(first), len(second))
    return first[-shorter:] == second[-shorter:]
