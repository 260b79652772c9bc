"""Listing of a folder: the images that are read, and files that may be images but are not read, with advice."""

from __future__ import annotations

import functools
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from underpaint.data.decode.formats import ADVICE_ON_AVIF, ADVICE_ON_HEIF, ADVICE_ON_RAW, EXTENSIONS, RAW
from underpaint.data.folders.program_folders import files_below, is_kept_by_a_program
from underpaint.data.source import Problem
from underpaint.messages import counted, say

_ADVICE_BY_KIND = {
    ADVICE_ON_AVIF: ".avif .avifs",
    ADVICE_ON_HEIF: ".heic .heif .hif",
    ADVICE_ON_RAW: " ".join(RAW),
    "a camera's raw format: convert it to TIFF or JPEG": (
        ".3fr .crw .dcr .erf .iiq .kdc .mrw .raw .rwl .sr2 .srf .x3f"
    ),
    "convert it to JPEG or PNG": (
        ".bpg .cur .dcm .dds .dib .eps .exr .fits .hdr .icns .ico .j2k .jp2 .jpf .jpx .jxl .jxr .nii .pcx .pfm .psd "
        ".qoi .sgi .svg .svgz .tga .wdp .xcf"
    ),
    "a video: save its frames as images": ".avi .m4v .mkv .mov .mp4 .mts .webm",
}
_ADVICE = {suffix: advice for advice, suffixes in _ADVICE_BY_KIND.items() for suffix in suffixes.split()}

_NO_IMAGES = (
    ".aae",
    ".bib",
    ".cls",
    ".csv",
    ".db",
    ".gz",
    ".htm",
    ".html",
    ".ini",
    ".ipynb",
    ".json",
    ".jsonl",
    ".lnk",
)
_NO_IMAGES += (".log", ".md", ".npy", ".npz", ".parquet", ".pdf", ".py", ".rst", ".sh", ".sqlite", ".tab", ".toml")
_NO_IMAGES += (".tsv", ".txt", ".url", ".xlsx", ".xml", ".xmp", ".yaml", ".yml")
"""Extensions of files that are ignored silently: tables, texts, settings."""

_SIDECARS = (".json", ".txt", ".xmp")

_ARCHIVES = (".7z", ".cbr", ".cbz", ".rar", ".tar", ".taz", ".tbz", ".tbz2", ".tgz", ".tlz", ".txz", ".tzst", ".zip")
_ARCHIVE = "an archive: `underpaint prepare` reads tars, unpack others"
_UNKNOWN = "no extension of an image"
_NAMELESS = "an image without an extension: give it one"
_MISNAMED = "an image by its content: rename it"
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*")
_KINDS_SHOWN = 8
_PAIRED = "the image of the same name beside each is read"

LINK = "a symbolic link that leads out of the folder, or nowhere"
LOOP = "a symbolic link to a folder that it lies in, or that another link leads to"
_ADVICE_ON_LINKS = {
    LINK: "lead out of the folder or nowhere: put the files into it",
    LOOP: "lead to folders read already",
}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files in a folder and its sub-folders, sorted by path, without hidden ones (``._a.jpg`` of a Mac)."""

    images: tuple[str, ...]
    """Paths of files with the extension of an image, relative to the folder, with ``/``."""
    links: tuple[Problem, ...]
    """Symbolic links that are not followed."""
    unread: tuple[Problem, ...]
    """Files that hold images but are not read."""
    paired: tuple[str, ...]
    """Paths of raw files beside another image of the same name, the camera's JPEG of the same photograph."""
    others: tuple[str, ...]
    """Paths of archives and of files with unknown extensions, without tables, texts and the like."""
    sidecars: tuple[str, ...]
    """Paths of files that may describe an image beside them."""
    program_files: Mapping[str, int]
    """Numbers of files in folders that programs keep for themselves, by the name of the folder."""

    def skipped(self) -> str:
        """A line that counts the files that are not read by kind, with advice; "" where all are read.

        ``skipped 13 files: 9 .heic (pip install 'underpaint[heif]'), 3 .crw, 1 .x3f (a camera's raw format: ...)``
        """
        kinds: dict[str, Counter[str]] = defaultdict(Counter)
        for problem in self.unread:
            advice = _MISNAMED if problem.reason == _MISNAMED else _advice(problem.key)
            kinds[advice][_suffix(problem.key)] += 1
        for path in self.others:
            kinds[_advice(path)][_suffix(path)] += 1
        for path in self.paired:
            kinds[_PAIRED][_suffix(path)] += 1
        by_size = sorted(kinds.items(), key=lambda kind: -kind[1].total())
        parts = [f"{_shortened(suffixes)} ({advice})" for advice, suffixes in by_size]
        for reason, advice in _ADVICE_ON_LINKS.items():
            if links := [link.key for link in self.links if link.reason == reason]:
                parts.append(f"{counted(len(links), 'link')} such as {links[0]!r} ({advice})")
        if self.program_files:
            names = ", ".join(sorted(self.program_files))
            parts.append(f"{sum(self.program_files.values()):,} in folders that programs keep for themselves ({names})")
        total = len(self.unread) + len(self.paired) + len(self.others) + len(self.links)
        total += sum(self.program_files.values())
        return f"skipped {counted(total, 'file')}: {', '.join(parts)}" if total else ""


def list_folder(root: Path) -> Listing:
    """List every file below ``root``, an absolute path without links in it.

    Symbolic links are followed inside the folder, to files and to folders, each folder once.

    Raises:
        ValueError: if a folder may not be read.
    """
    images: list[str] = []
    links: list[Problem] = []
    unread: list[Problem] = []
    others: list[str] = []
    sidecars: list[str] = []
    program_files: Counter[str] = Counter()
    for path, entry in _walk(root, links, program_files):
        # an entry knows its kind: asking the system, or making a Path, takes half a minute for a million files
        file, suffix, is_link = entry.path, _suffix(entry.name), entry.is_symlink()
        if suffix in _SIDECARS and not is_link:
            sidecars.append(path)
        if suffix in _NO_IMAGES:
            continue
        if is_link and not _stays_inside(Path(file), root):
            links.append(Problem(key=path, reason=LINK))
        elif not (os.path.isfile(file) if is_link else entry.is_file()):
            continue
        elif suffix in EXTENSIONS:
            images.append(path)
        elif suffix in _ADVICE or (not suffix and _looks_like_an_image(Path(file))):
            unread.append(Problem(key=path, reason=f"{suffix or 'it'} is not read ({_advice(path)})"))
        elif suffix and _advice(path) == _UNKNOWN and _looks_like_an_image(Path(file)):
            unread.append(Problem(key=path, reason=_MISNAMED))
        elif suffix:
            others.append(path)
    paired = _paired(images, [problem.key for problem in unread])
    return Listing(
        images=tuple(sorted(path for path in images if path not in paired)),
        links=_sorted(links),
        unread=_sorted([problem for problem in unread if problem.key not in paired]),
        paired=tuple(sorted(paired)),
        others=tuple(sorted(others)),
        sidecars=tuple(sorted(sidecars)),
        program_files=program_files,
    )


def say_skipped(root: Path, listing: Listing) -> None:
    """Print the line about files that are not read, once in each process."""
    if skipped := listing.skipped():
        _say_once(f"{root}: {skipped}")


@functools.cache
def _say_once(line: str) -> None:
    say(line)


def refuse_unreadable(error: OSError) -> None:
    """Raise ValueError for a folder that may not be read, whose files would otherwise be left out silently."""
    raise ValueError(f"{error.filename} cannot be read: {error.strerror}; correct its permissions or move it away")


def _walk(root: Path, links: list[Problem], program_files: Counter[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield files and links to files with their paths.

    Links to folders that are not followed go into ``links``, the files of programs are counted in ``program_files``.
    """
    waiting, linked, below = list[Path](), set[Path](), [root]
    while below or waiting:
        base = below.pop() if below else waiting.pop()
        folders, files = _entries(base)
        visible = sorted(name for name in folders if not name.startswith("."))
        kept = [name for name in visible if is_kept_by_a_program(base / name)]
        for name in kept:
            program_files[name] += files_below(base / name)
        inner: list[Path] = []
        for folder in (base / name for name in visible if name not in kept):
            if not folder.is_symlink():
                inner.append(folder)
                continue
            target, path = folder.resolve(), folder.relative_to(root).as_posix()
            if not target.is_relative_to(root):
                links.append(Problem(key=path, reason=LINK))
            elif target in linked or base.resolve().is_relative_to(target):
                links.append(Problem(key=path, reason=LOOP))
            else:
                linked.add(target)
                waiting.append(folder)
        below += reversed(inner)
        inside = "" if base == root else f"{base.relative_to(root).as_posix()}/"
        yield from ((f"{inside}{file.name}", file) for file in files if not file.name.startswith("."))


def _entries(folder: Path) -> tuple[list[str], list[os.DirEntry[str]]]:
    """The names of the folders in a folder, links to folders among them, and all other entries."""
    folders: list[str] = []
    files: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_folder(entry):
                    folders.append(entry.name)
                else:
                    files.append(entry)
    except OSError as error:
        refuse_unreadable(error)
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _stays_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # dangling, or a circle
        return False


def _looks_like_an_image(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            start = opened.read(12)
    except OSError:
        return False
    return start.startswith(_SIGNATURES) or start[4:8] == b"ftyp" or (start[:4] == b"RIFF" and start[8:] == b"WEBP")


def _shortened(suffixes: Counter[str]) -> str:
    """The number of files of each extension, the most frequent ones first."""
    counts = suffixes.most_common()
    shown = [f"{count:,} {suffix or 'nameless'}" for suffix, count in counts[:_KINDS_SHOWN]]
    if hidden := counts[_KINDS_SHOWN:]:
        shown.append(f"{sum(count for _, count in hidden):,} of {len(hidden)} further kinds")
    return ", ".join(shown)


def _advice(path: str) -> str:
    suffix = _suffix(path)
    if suffix in _ARCHIVES or suffix.startswith(".tar."):
        return _ARCHIVE
    return _ADVICE.get(suffix, _UNKNOWN) if suffix else _NAMELESS


def _suffix(path: str) -> str:
    """The extension in lower case; for compressed tars both (``.tar.gz``)."""
    name = path.rpartition("/")[2].lower().lstrip(".")
    _, *parts = name.split(".")
    if not parts or not parts[-1]:
        return ""
    return ".tar." + parts[-1] if parts[-2:-1] == ["tar"] else "." + parts[-1]


def _paired(images: list[str], unread: list[str]) -> set[str]:
    """The raw files beside an image whose path is the same but for the extension, whether raw files are read or not."""
    suffixes = tuple(RAW)
    stems = {path: path.rpartition(".")[0].lower() for path in (*images, *unread) if path.lower().endswith(suffixes)}
    if not stems:
        return set()
    named = {path.rpartition(".")[0].lower() for path in images if path not in stems}
    return {path for path, stem in stems.items() if stem in named}


def _sorted(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: problem.key))
