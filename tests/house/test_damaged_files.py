"""No reader raises anything but the package's own error in one line, whatever is in the file.

Each reader gets 300 damaged copies of a good file, some readers the first 200 of them in the fast tests. It gives a
result, or a ``ValueError`` that the package itself raised: one of a library that happens to be a ValueError is not the
package's word.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from _pytest.mark import ParameterSet
from PIL import Image
from safetensors.torch import save_file

import underpaint
from support.image_copies import photograph
from support.image_files import encoded, noise
from support.lexicon_examples import lexicon
from support.mutations import MUTATIONS, mutations
from support.prepared_example import prepare_example, write_tar
from support.raw_files import dng, small_and_large
from support.report_example import make_run, make_study
from underpaint.data.decode.embedded_tags import embedded_tags
from underpaint.data.decode.image import decode
from underpaint.data.decode.limits import BadImage
from underpaint.data.folders.annotations import read_labels, read_tags
from underpaint.data.near_duplicates.fingerprints import fingerprint
from underpaint.data.quarantine import Quarantine
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.tar import list_members
from underpaint.data.tables import metadata
from underpaint.data.tables.table_file import TableFile
from underpaint.data.tables.tag_tables import TagTable
from underpaint.models.vit import ViT, ViTConfig
from underpaint.models.weights import load_encoder, save_encoder
from underpaint.preparation.image_header import examine
from underpaint.preparation.mapping import read_mapping
from underpaint.preparation.samples import read_member
from underpaint.results.preparation import read_record as read_preparation
from underpaint.results.run import read_bad_records, read_environment, read_log, read_record, read_result
from underpaint.results.study_file import read_results
from underpaint.tagging.journal import UNDO, Journal, read_part
from underpaint.tagging.packet import EMPTY, SUBJECT, with_predicted
from underpaint.tagging.sidecars import Change
from underpaint.tags.lexicons import read_lexicons
from underpaint.tags.wordnet import wordnet
from underpaint.training.log import RunLog
from underpaint.training.log import read_log as read_training_log
from underpaint.weights.weight_files import open_weights

PACKAGE = Path(underpaint.__file__).parent
EMBEDDED = Path(__file__).parents[1] / "data" / "embedded"


PREPARED = (
    '{"format": 1, "digest": "0", "settings": {"underpaint": "0.1.0", "sources": [{"name": "a", "path": "/a", '
    '"kind": "folder", "table": ""}], "tags": "", "tags_hash": "", "exclude": [], "rules": {}, "resample": "sqrt", '
    '"resample_ratio": 1.5, "shard_images": 10}, "counts": {"partitions": 1, "images": 2, "labels": 3, "dropped": 0, '
    '"reasons": {}}, "excluded": [], "refused": {}}'
)


@dataclass(frozen=True)
class Reader:
    """A good file, written by ``make`` into a folder, and the function that reads it once it is damaged."""

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    never_refuses: bool = False


def raised_by_the_package(error: BaseException) -> bool:
    """Does the last frame of the traceback lie in the package?"""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and Path(trace.tb_frame.f_code.co_filename).is_relative_to(PACKAGE)


def complaint(reader: Reader, error: Exception | None) -> str:
    """What is wrong with how a reader took a damaged file; "" where it gave a result or refused the file properly."""
    if error is None:
        return ""
    if not isinstance(error, ValueError) or not raised_by_the_package(error):
        return f"not the package's own: {error!r}"
    if reader.never_refuses:
        return f"raises though it never should: {error!r}"
    return "" if str(error) and "\n" not in str(error) else f"not one line: {error!r}"


def error_of(reader: Reader, file: Path) -> Exception | None:
    try:
        reader.read(file)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    return None


def check(reader: Reader, folder: Path, numbers: range) -> tuple[int, int]:
    """Read the damaged copies of these numbers; how many were read, and how many refused."""
    file = reader.make(folder)
    whole = file.read_bytes()
    reader.read(file)
    refusals = 0
    complaints: dict[str, int] = {}
    copies = enumerate(mutations(whole, numbers.stop, seed=reader.name))
    for number, damaged in itertools.islice(copies, numbers.start, None):
        file.write_bytes(damaged)
        error = error_of(reader, file)
        refusals += error is not None
        if text := complaint(reader, error):
            complaints.setdefault(text[:300], number)
    assert not complaints, "\n".join(f"copy {number}: {text}" for text, number in list(complaints.items())[:12])
    return len(numbers) - refusals, refusals


def written(name: str, content: bytes | str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        return folder / name

    return make


def picture(kind: str) -> bytes:
    return encoded(Image.fromarray(noise(3, (24, 20))), kind)


def deep_tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.arange(20 * 24 * 3, dtype=np.uint16).reshape(24, 20, 3), photometric="rgb")
    return file.getvalue()


def read_image(file: Path) -> object:
    """As in training, as in preparing, and for near duplicates; deep pixels by their declared range."""
    data = file.read_bytes()
    fingerprint([data])
    embedded_tags(data)
    try:
        header = examine(data)
    except BadImage:
        header = None
    deep = header is not None and "deep" in header.flags
    return decode(data, channels=3, value_range=(0.0, 65535.0) if deep or b"II*" in data[:4] else (0.0, 255.0))


def read_with_extra(file: Path) -> object:
    """Refused by its name, with the package to install, where pillow-heif or rawpy is not there."""
    try:
        return read_image(file)
    except BadImage as error:
        if "install" in str(error) or "HEIC" in str(error):
            return str(error)
        raise


def make_tar(folder: Path) -> Path:
    members = [(f"folder/{n}.{kind}", content) for n in range(2) for kind, content in sample(n).items()]
    write_tar(folder / "a.tar", members)
    return folder / "a.tar"


def sample(number: int) -> dict[str, bytes]:
    fields = {"tags": ["owl", "barn owl"], "caption": "a caption", "license": "CC0"}
    return {"png": picture("PNG"), "json": json.dumps(fields).encode(), "txt": f"text {number}".encode()}


def read_tar(file: Path) -> object:
    with file.open("rb") as opened:
        members, problems = list_members(opened, file.name)
        assert all(member.offset + member.size <= file.stat().st_size for member in members)
        for key in {member.key for member in members}:
            read_member(opened, [member for member in members if member.key == key], {})
    return problems


CSV = "path,tags,caption\n" + "".join(f'{n}.jpg,"owl; barn owl, {n}",a "nice" bird\n' for n in range(20))
CLASSES = "path,class\n" + "".join(f"{n}.jpg,kind {n % 3}\n" for n in range(20))
JSONL = "".join(json.dumps({"file_name": f"{n}.jpg", "tags": ["owl", f"tag {n}"]}) + "\n" for n in range(20))
TSV = CSV.replace(",", "\t")
YFCC = "".join("\t".join([f"{n}", f"{n}", "ab" * 16, *["x+y%20z"] * 21, "0"]) + "\n" for n in range(9))


def make_parquet(folder: Path) -> Path:
    table = pa.table({"path": [f"{n}.jpg" for n in range(30)], "tags": [["owl", f"tag {n}"] for n in range(30)]})
    pq.write_table(table, folder / "tags.parquet")
    return folder / "tags.parquet"


def rows(file: Path) -> object:
    return list(TagTable(TableFile(file)).rows())


KNOWN = [f"{n}.jpg" for n in range(30)]


def tags_of_folder(file: Path) -> object:
    return read_tags(TableFile(file), file.parent, KNOWN)


def labels_of_folder(file: Path) -> object:
    return read_labels(TableFile(file), file.parent, KNOWN)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"blocks.0.weight": torch.randn(8, 8), "head.bias": torch.randn(8), "half": torch.randn(4).half()}


def make_safetensors(folder: Path) -> Path:
    save_file(tensors(), folder / "weights.safetensors", metadata={"format": "pt"})
    return folder / "weights.safetensors"


def make_pth(folder: Path) -> Path:
    torch.save({"model": tensors(), "epoch": 3, "optimizer": {"lr": [1e-3]}}, folder / "weights.pth")
    return folder / "weights.pth"


def read_weights(file: Path) -> object:
    opened = open_weights(file)
    return {name: opened.tensors.read(name) for name in opened.tensors.info}


SMALL = ViTConfig(size=(8, 8), patch=4, width=8, depth=1, heads=2)


def make_encoder(folder: Path) -> Path:
    save_encoder(folder / "encoder", ViT(SMALL), origin={"source": "somewhere", "licence": "CC0"})
    return folder / "encoder" / "config.json"


def make_encoder_weights(folder: Path) -> Path:
    make_encoder(folder)
    return folder / "encoder" / "model.safetensors"


def make_results(folder: Path) -> Path:
    return make_study(folder / "study", arms=("random", "mae", "mae_wsp")) / "results.json"


def run_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        make_run(folder / "run", stage="mae", samples=1000, flops=1e8, speed=10.0)
        log = folder / "run" / "log.jsonl"
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:5]))
        return folder / "run" / name

    return make


def set_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        prepare_example(folder / "set", sizes=(5, 3))
        return folder / "set" / name

    return make


def read_set(file: Path) -> object:
    prepared = PreparedSet(file.parent)
    return [len(rows) for rows in prepared.scan()], prepared.vocabulary()


def make_lexicon(folder: Path) -> Path:
    words = {"fougère": ["omw-fr-11545714-n"], "fougères": ["omw-fr-11545714-n"]}
    return Path(lexicon(folder, "omw-fr", words, {"omw-fr-11545714-n": "i0"}))


BAD_RECORDS = "".join(f'{{"key": "{n}.jpg", "reason": "missing file"}}\n' for n in range(9))
LOG = "".join(f'{{"step": {n}, "samples": {8 * n}, "loss": {1 / (1 + n)}}}\n' for n in range(9))


def read_quarantine(file: Path) -> object:
    return len(Quarantine(file, images=100, max_bad=1.0))


def truncate_log(file: Path) -> object:
    """As a run that is resumed does."""
    log = RunLog(file.parent, step=5)
    log.close()
    return read_training_log(file)


def make_sidecar(folder: Path) -> Path:
    content = with_predicted(EMPTY, ["cat", "brown bear"], about=["written=1"], inside=[(SUBJECT, "owl")])
    return written("a.jpg.xmp", content)(folder)


def add_predicted(file: Path) -> object:
    return with_predicted(file.read_bytes(), ["dog"], about=["written=2"], inside=[])


def make_undo_file(folder: Path) -> Path:
    change = Change(
        sidecar=folder / "a.xmp", before=None, mode=None, changed=0, after=EMPTY, written=1, predicted=("cat",)
    )
    Journal(folder, folder).write([change])
    return folder / UNDO / "000000.parquet"


READERS = [
    *(Reader(f"image {kind}", written(f"a.{kind}", picture(kind)), read_image) for kind in ("JPEG", "PNG", "WEBP")),
    *(
        Reader(f"image {kind}", written(f"a.{kind}", picture(kind)), read_image)
        for kind in ("GIF", "BMP", "PPM", "TIFF")
    ),
    Reader("image AVIF", written("a.avif", picture("AVIF")), read_image),
    Reader("image HEIC", written("a.heic", (EMBEDDED / "phone.heic").read_bytes()), read_with_extra),
    Reader("image DNG", written("a.dng", dng(small_and_large(photograph(1)), orientation=6)), read_with_extra),
    Reader("image deep TIFF", written("a.tif", deep_tiff()), read_image),
    *(
        Reader(f"keywords {path.name}", written("a", path.read_bytes()), lambda f: embedded_tags(f.read_bytes()), True)
        for path in sorted(EMBEDDED.glob("*.*"))
    ),
    Reader("tar", make_tar, read_tar, never_refuses=True),
    Reader("sidecar JSON", written("a.json", sample(1)["json"]), lambda file: metadata.from_json(file.read_bytes())),
    Reader("sidecar text", written("a.txt", "owl; Zoë\n#cat"), lambda file: metadata.from_sidecar(file.read_bytes())),
    Reader("tags CSV", written("tags.csv", CSV), rows),
    Reader("tags JSON lines", written("tags.jsonl", JSONL), rows),
    Reader("tags TSV", written("tags.tsv", TSV), rows),
    Reader("tags YFCC", written("yfcc100m_dataset", YFCC), rows),
    Reader("tags Parquet", make_parquet, rows),
    Reader("tags CSV of a folder", written("tags.csv", CSV), tags_of_folder),
    Reader("tags Parquet of a folder", make_parquet, tags_of_folder),
    Reader("classes CSV", written("labels.csv", CLASSES), labels_of_folder),
    Reader("mapping CSV", written("m.csv", "tag,label\nowl,barn owl\ncat,\n"), read_mapping),
    Reader("lexicon", make_lexicon, lambda file: read_lexicons([file], wordnet())),
    Reader("safetensors", make_safetensors, read_weights),
    Reader("pth", make_pth, read_weights),
    Reader("encoder config", make_encoder, lambda file: load_encoder(file.parent)),
    Reader("encoder weights", make_encoder_weights, lambda file: load_encoder(file.parent)),
    Reader("results.json", make_results, lambda file: read_results(file.parent)),
    Reader("run.json", run_file("run.json"), lambda file: read_record(file.parent)),
    Reader("env.json", run_file("env.json"), lambda file: read_environment(file.parent)),
    Reader("log.jsonl", run_file("log.jsonl"), lambda file: list(read_log(file.parent))),
    Reader("bad_records.jsonl", run_file("bad_records.jsonl"), lambda file: list(read_bad_records(file.parent))),
    Reader("bad records of a resumed run", written("bad_records.jsonl", BAD_RECORDS), read_quarantine),
    Reader("log of a resumed run", written("log.jsonl", LOG), truncate_log, never_refuses=True),
    Reader("result.json", run_file("result.json"), lambda file: read_result(file.parent)),
    Reader("prepare.json", written("prepare.json", PREPARED), lambda f: read_preparation(f.parent)),
    Reader("undo file", make_undo_file, lambda file: list(read_part(file))),
    Reader("XMP sidecar", make_sidecar, add_predicted),
    *(
        Reader(name, set_file(name), read_set)
        for name in ("prepared.json", "index.parquet", "shards.parquet", "vocabulary.parquet")
    ),
]


FAST = (
    *("image JPEG", "image PNG", "image TIFF", "keywords exiftool.jpg", "keywords exiftool.tif", "tar", "sidecar JSON"),
    *("tags CSV", "tags Parquet", "classes CSV", "safetensors", "pth", "encoder config", "results.json", "log.jsonl"),
)
"""Readers of the fast tests, one of each kind; the others take as long together and are slow tests."""


def cases(readers: Sequence[Reader]) -> list[ParameterSet]:
    return [pytest.param(reader, id=reader.name) for reader in readers]


@pytest.mark.parametrize("reader", cases([reader for reader in READERS if reader.name in FAST]))
def test_a_damaged_file_is_read_or_refused(reader: Reader, tmp_path: Path) -> None:
    results, refusals = check(reader, tmp_path, range(200))
    assert results + refusals == 200
    assert reader.never_refuses or refusals > 0, "the damage does something"


@pytest.mark.slow
@pytest.mark.parametrize("reader", cases(READERS))
def test_much_damage(reader: Reader, tmp_path: Path) -> None:
    numbers = range(200 if reader.name in FAST else 0, 300)
    results, refusals = check(reader, tmp_path, numbers)
    assert results + refusals == len(numbers)


def test_the_fast_readers_are_some_of_all() -> None:
    assert len({reader.name for reader in READERS}) == len(READERS)
    assert {reader.name for reader in READERS} > set(FAST)


def test_mutations_are_the_same_for_a_seed_and_damage_the_file() -> None:
    data = photograph(0).tobytes()[:5000] + CSV.encode()
    first, again = (list(mutations(data, 100, seed="a")) for _ in range(2))
    assert first == again
    assert sum(one != data for one in first) > 90
    assert len(set(first)) > 90
    assert len(MUTATIONS) == 11


def test_an_error_of_a_library_is_not_the_word_of_the_package() -> None:
    with pytest.raises(ValueError, match="invalid literal") as library:
        int("x")
    assert not raised_by_the_package(library.value)
    with pytest.raises(BadImage) as own:
        examine(b"")
    assert raised_by_the_package(own.value)
