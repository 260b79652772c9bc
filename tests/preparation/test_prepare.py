"""`underpaint prepare`: the same labels from every form of a source, sets that grow and continue, hostile sources."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import tarfile
import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyexiv2
import pytest
import xxhash
from PIL import Image

import underpaint
from support.image_copies import photograph
from support.image_files import encoded, png_chunk, xmp_png
from support.lexicon_examples import lexicon
from support.prepare_examples import (
    TAGS,
    index_of,
    names_of,
    outputs,
    picture,
    pictures,
    prepared,
    tree,
    write_csv,
    write_files,
    write_tars,
)
from support.small_runs import BATCH, log_lines, make_images, wsp_run
from underpaint.__main__ import main
from underpaint.data.open_source import open_source
from underpaint.data.shards.prepared_set import PreparedSet
from underpaint.data.shards.tar import list_members
from underpaint.preparation import joining, pipeline
from underpaint.run import execute
from underpaint.tags.canonical import TagRules


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_files(tmp_path / "photos", pictures())


def expected() -> dict[bytes, set[str]]:
    """Read by eye from TAGS."""
    names = {
        "animals/bear one.png": {"brown bear", "forest"},
        "animals/bear2.png": {"brown bear", "forest"},
        "animals/dog.v2.jpg": {"dog", "walk"},
        "plants/fern.png": {"fern", "forest", "fougère"},
        "plants/oak.webp": {"oak", "tree"},
        "plants/oak.png": {"oak", "forest"},
    }
    return {xxhash.xxh3_128_digest(content): names[name] for name, content in pictures().items()}


def sidecar_txt(folder: Path) -> Path:
    for path, tags in TAGS.items():
        (folder / path).with_name(f"{Path(path).name}.txt").write_text("\n".join(tags), encoding="utf-8")
    return folder


def sidecar_json(folder: Path) -> Path:
    for path, tags in TAGS.items():
        (folder / path).with_name(f"{Path(path).name}.json").write_text(json.dumps({"keywords": tags}))
    return folder


def parquet_of_lists(folder: Path) -> Path:
    table = pa.table({"image_path": list(TAGS), "hashtags": [list(tags) for tags in TAGS.values()]})
    pq.write_table(table, folder / "posts.parquet")
    return folder / "posts.parquet"


def tsv(folder: Path) -> Path:
    rows = ["file_name\ttags\tcaption", *(f"{path}\t{' '.join(tags)}\ta; caption" for path, tags in TAGS.items())]
    (folder / "posts.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "posts.tsv"


def in_captions(folder: Path) -> Path:
    rows = [f'{path},"see {" ".join("#" + tag.lstrip("#") for tag in tags)}"' for path, tags in TAGS.items()]
    (folder / "posts.csv").write_text("\n".join(["path,caption", *rows]), encoding="utf-8")
    return folder / "posts.csv"


def yfcc(folder: Path) -> Path:
    """25 fields a line; images under the hash of their names, as on Amazon's."""
    lines = []
    for number, (path, tags) in enumerate(TAGS.items()):
        digest = f"{number:x}" * 32
        target = folder / "data" / "images" / digest[:3] / digest[3:6] / f"{digest}.jpg"
        target.parent.mkdir(parents=True)
        (folder / path).rename(target)
        fields = [str(number), f"{7000 + number}", digest, "me@N00", "me", "2010", "1", "camera", "A+title", "What%3F"]
        fields += [urllib.parse.quote_plus(",".join(tags), safe=","), "", "", "", "", "page", "download"]
        fields += ["Attribution License", "http://l", "1", "1", "secret", "secret", "jpg", "0"]
        lines.append("\t".join(fields))
    video = [*lines[0].split("\t")[:-1], "1"]
    video[1], video[2] = "9", "f" * 32
    (folder / "yfcc100m_dataset").write_text("\n".join([*lines, "\t".join(video)]) + "\n")
    return folder / "yfcc100m_dataset"


def yfcc_bz2(folder: Path) -> Path:
    plain = yfcc(folder)
    plain.with_suffix(".bz2").write_bytes(bz2.compress(plain.read_bytes()))
    return plain.with_suffix(".bz2")


def csv_gz(folder: Path) -> Path:
    plain = write_csv(folder / "posts.csv", TAGS)
    (folder / "posts.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    return folder / "posts.csv.gz"


FORMS = [sidecar_txt, sidecar_json, parquet_of_lists, tsv, in_captions, yfcc, yfcc_bz2, csv_gz]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_labels(tmp_path: Path, photos: Path, form: Callable[[Path], Path]) -> None:
    out = prepared(tmp_path / "set", form(photos))
    assert names_of(out) == expected()


def test_tags_csv_of_a_folder_a_csv_a_joined_table_and_tars_give_the_same_labels(tmp_path: Path, photos: Path) -> None:
    tars = write_tars(tmp_path / "tars", pictures(), TAGS)
    keys = {f"{number // 4:05d}{number % 4:04d}": tags for number, tags in enumerate(TAGS.values())}
    bare = write_tars(tmp_path / "bare", pictures(), dict.fromkeys(TAGS, ()))
    by_key = write_csv(tmp_path / "by_key.csv", keys)
    by_key.write_text(by_key.read_text(encoding="utf-8").replace("path,", "id,", 1), encoding="utf-8")
    outs = [
        prepared(tmp_path / "set1", write_csv(photos / "posts.csv", TAGS)),
        prepared(tmp_path / "set2", tars),
        prepared(tmp_path / "set3", bare, tags=str(by_key)),
        prepared(tmp_path / "set4", photos, tags=str(photos / "posts.csv")),
    ]
    (photos / "posts.csv").rename(photos / "tags.csv")
    outs.append(prepared(tmp_path / "set5", photos))
    assert [names_of(out) for out in outs] == [expected()] * 5


def test_embedded_keywords_and_class_folders(tmp_path: Path) -> None:
    plain = {name: content for name, content in pictures().items() if name.endswith("png")}
    told = {name: xmp_png(content, TAGS[name]) for name, content in plain.items()}
    out = prepared(tmp_path / "set1", write_files(tmp_path / "embedded", told))
    found = {f"{row['key']}.png": names_of(out)[row["content_hash"]] for row in index_of(out)}
    wanted = expected()
    assert found == {name: wanted[xxhash.xxh3_128_digest(content)] for name, content in plain.items()}
    out = prepared(tmp_path / "set2", write_files(tmp_path / "folders", pictures()))
    assert {frozenset(one) for one in names_of(out).values()} == {frozenset({"animal"}), frozenset({"plant"})}


def test_class_folders_are_the_classes_beside_keywords_where_they_are_asked_for(tmp_path: Path) -> None:
    told = {name: xmp_png(content, TAGS[name]) for name, content in pictures().items() if name.endswith("png")}
    folder = write_files(tmp_path / "photos", told)
    plain, out = prepared(tmp_path / "set1", folder), prepared(tmp_path / "set2", folder, labels="folders")
    assert names_of(out) == names_of(plain), "the labels stay those of the keywords"
    source = open_source(str(out))
    assert sorted(source.label) == sorted(name.partition("/")[0] for name in told)
    assert source.rows("test")
    assert underpaint.prepare([str(folder)], out)["settings"]["labels"] == "folders", "continued without the option"
    flat = write_files(tmp_path / "flat", {Path(name).name: content for name, content in told.items()})
    with pytest.raises(ValueError, match=r"--labels folders: .*flat has no class folders; every image must lie in one"):
        prepared(tmp_path / "set3", flat, labels="folders")


def test_splits_of_class_folders_are_kept(tmp_path: Path) -> None:
    plain = {name: content for name, content in pictures().items() if name.endswith("png")}
    halves = {
        f"{half}/{name}": content for half, (name, content) in zip(("train", "test") * 2, plain.items(), strict=True)
    }
    source = open_source(str(prepared(tmp_path / "set", write_files(tmp_path / "photos", halves), labels="folders")))
    tested = {xxhash.xxh3_128_digest(content).hex() for name, content in halves.items() if name.startswith("test/")}
    assert {source.family[row] for row in source.rows("test")} == tested


def test_the_index_says_where_the_bytes_are(tmp_path: Path, photos: Path) -> None:
    """Of shards that are written, and of tars that stay where they are."""
    tars = write_tars(tmp_path / "tars", pictures(), TAGS)
    before = tree(tars)
    out = prepared(tmp_path / "set", sidecar_txt(photos), tars, shard_images=2)
    rows = index_of(out)
    assert len(rows) == 2 * len(TAGS)
    for row in rows:
        file = out / row["shard"]  # an absolute path stays one
        content = file.read_bytes()[row["offset"] : row["offset"] + row["size"]]
        assert xxhash.xxh3_128_digest(content) == row["content_hash"]
        assert (row["width"], row["height"]) == (16, 12)
        with tarfile.open(file) as archive:  # an independent reader finds the same member
            member = next(
                one for one in archive if one.name.rpartition(".")[0] == row["key"] and "json" not in one.name
            )
            assert (member.offset_data, member.size) == (row["offset"], row["size"])
    assert tree(tars) == before
    assert not list((out / "shards").glob("tars-*"))
    for shard in (out / "shards").glob("*.tar"):
        assert list_members(io.BytesIO(shard.read_bytes()), shard.name)[1] == []


def test_what_is_left_out_is_told(tmp_path: Path, photos: Path) -> None:
    write_files(photos, {"animals/empty.png": b"", "animals/text.jpg": b"no image", "animals/huge.png": bomb()})
    write_files(photos, {"animals/cut.png": picture(8)[:-60]})
    (photos / "animals" / "out.png").symlink_to(tmp_path / "elsewhere.png")
    write_files(photos, {"animals/camera.CRW": picture(9), "animals/drawing.svg": b"<svg/>"})
    out = prepared(tmp_path / "set", sidecar_txt(photos))
    dropped = {row["key"]: row["reason"] for row in pq.read_table(out / "dropped.parquet").to_pylist()}
    assert dropped["animals/empty.png"] == "the file is empty"
    assert dropped["animals/text.jpg"] == "it is not an image of a known format"
    assert dropped["animals/huge.png"] == "it has more pixels than the limit of 100000000"
    assert "symbolic link" in dropped["animals/out.png"]
    assert "truncated" in dropped["animals/cut.png"]
    assert "camera's raw format: convert it to TIFF or JPEG" in dropped["animals/camera.CRW"]
    assert dropped["animals/drawing.svg"] == ".svg is not read (convert it to JPEG or PNG)"
    assert len(dropped) == 7
    assert names_of(out) == expected()
    record = json.loads((out / "prepare.json").read_text())
    assert record["counts"]["dropped"] == 7
    assert record["counts"]["images"] == len(TAGS)


def test_near_duplicates_of_evaluation_images_are_left_out_and_counted(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One in a folder, which is then in no shard, and one in a tar; a noisy copy counts, another picture does not."""
    shown, other = photograph(3), photograph(4)
    noisy = Image.fromarray(np.clip(np.asarray(shown, dtype=int) + 3, 0, 255).astype(np.uint8))
    write_files(photos, {"shown.png": encoded(noisy)})
    tars = write_tars(tmp_path / "tars", {"a/same.png": encoded(shown), **pictures()}, {"a/same.png": ("sky",), **TAGS})
    evaluation = write_files(tmp_path / "imagenet-val", {"1.png": encoded(shown), "2.png": encoded(other)})
    given = ["prepare", str(sidecar_txt(photos)), str(tars), "--out", str(tmp_path / "set")]
    assert main([*given, "--exclude", str(evaluation)]) == 0
    assert "2 near duplicates of 1 of 2 images of imagenet-val" in capsys.readouterr().out
    out = tmp_path / "set"
    pairs = pq.read_table(out / "excluded.parquet").to_pylist()
    assert {(pair["key"], pair["set"], pair["path"]) for pair in pairs} == {
        ("shown.png", "imagenet-val", "1.png"),
        ("00000.tar/000000000", "imagenet-val", "1.png"),
    }
    assert len(index_of(out)) == 2 * len(TAGS)
    assert all(encoded(noisy) not in shard.read_bytes() for shard in (out / "shards").iterdir())
    assert main([*given, "--exclude", str(tmp_path / "none")]) == 2
    assert "none is not a folder of evaluation images" in capsys.readouterr().err


def bomb() -> bytes:
    """A PNG whose header states 50,000 x 50,000 pixels."""
    content = picture(0)
    return content[:8] + png_chunk(b"IHDR", (50_000).to_bytes(4, "big") * 2 + content[24:29]) + content[33:]


def test_a_set_that_grows_is_the_set_of_all_sources(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tars = write_tars(tmp_path / "tars", pictures(), TAGS)
    first = prepared(tmp_path / "grown", sidecar_txt(photos), shard_images=2)
    shards = {path.name for path in (first / "shards").iterdir()}
    read: list[str] = []
    original = pipeline.read_partition
    monkeypatch.setattr(pipeline, "read_partition", lambda one, shop: read.append(one.name) or original(one, shop))
    underpaint.prepare([str(tars)], first)
    assert f"{2 * len(TAGS)} images with" in " ".join((first / "prepare.html").read_text().split()).replace(
        "</span>", ""
    )
    assert {name.partition("-")[0] for name in read} == {"tars"}
    assert len(read) == 2
    again = prepared(tmp_path / "again" / "grown", photos, tars, shard_images=2)
    assert outputs(first) == outputs(again)
    read.clear()
    write_files(photos, {"plants/zz.png": picture(99)})
    underpaint.prepare([str(photos)], first)
    assert len(read) == 1, "a partition of its own, for one image a partition is full"
    assert {path.name for path in (first / "shards").iterdir()} > shards
    read.clear()
    (photos / "animals" / "bear2.png").unlink()
    underpaint.prepare([str(photos)], first)
    assert len(index_of(first)) == 2 * len(TAGS)
    assert len({path.name for path in (first / "shards").iterdir()} & shards) == len(shards) - 1


def test_other_rules_need_no_reading(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = prepared(tmp_path / "set", sidecar_txt(photos))
    monkeypatch.setattr(pipeline, "read_partition", lambda *_: pytest.fail("nothing is to be read"))
    mapping = tmp_path / "mine.csv"
    mapping.write_text("tag,label\nfern,oak\nwalk,\n")
    record = underpaint.prepare([str(photos)], out, mapping=str(mapping), vocabulary_size=4)
    assert record["counts"]["labels"] == 4
    counted = pq.read_table(out / "vocabulary.parquet").to_pylist()
    assert {row["name"]: row["count"] for row in counted}["oak"] == 3
    audit = {row["tag"]: row for row in pq.read_table(out / "tags_audit.parquet").to_pylist()}
    assert audit["walk"]["decision"] == "drop"
    kept = underpaint.prepare([str(photos)], out)
    assert kept["settings"]["rules"]["mapping"] == {"fern": "oak", "walk": ""}


def test_a_table_is_read_once_whatever_the_number_of_partitions(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(photos / "tags.csv", TAGS)
    calls: list[str] = []
    hashed, read = joining.xxh3, joining.TagTable.rows
    monkeypatch.setattr(joining, "xxh3", lambda file: (calls.append("hash"), hashed(file))[1])
    monkeypatch.setattr(joining.TagTable, "rows", lambda table: (calls.append("read"), read(table))[1])
    out = prepared(tmp_path / "set", photos, shard_images=1)
    assert len(list((out / "shards").iterdir())) > 2
    assert calls == ["hash", "read"]
    assert all(names_of(out).values())


def test_files_of_tags_beside_a_set_are_refused(
    tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(photos / "tags.csv", TAGS)
    out = prepared(tmp_path / "set", photos)
    with pytest.raises(ValueError, match="a prepared set, has its own labels"):
        open_source(str(out), tags=str(photos / "tags.csv"))
    assert main(["study", "stages", "--images", str(photos), "--data", str(out)]) == 2
    assert "are the same option" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["read_partition", "build_label_space", "IndexWriter", "write_json"])
def test_an_interrupted_start_is_continued_to_the_same_bytes(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    sidecar_txt(photos)
    wanted = outputs(prepared(tmp_path / "whole" / "set", photos, shard_images=1))
    calls = 0
    original = getattr(pipeline, place)

    def stop(*given: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3 or place != "read_partition":
            raise OSError("the disk is full")
        return original(*given, **named)

    monkeypatch.setattr(pipeline, place, stop)
    with pytest.raises(OSError, match="the disk is full"):
        prepared(tmp_path / "set", photos, shard_images=1)
    monkeypatch.setattr(pipeline, place, original)
    assert outputs(prepared(tmp_path / "set", photos, shard_images=1)) == wanted


def test_what_a_killed_process_left_half_written_is_taken_away(tmp_path: Path, photos: Path) -> None:
    out = prepared(tmp_path / "set", sidecar_txt(photos))
    wanted = outputs(out)
    labels = next((out / "prepare_work").glob("labels-*"))
    for folder in (out, out / "shards", out / "prepare_work" / "rows", labels):
        (folder / f"{photos.name}-0123456789abcdef.parquet.4711.part").write_bytes(b"half")
    assert outputs(prepared(out, photos)) == wanted


def test_images_without_a_word_are_a_set_for_mae(tmp_path: Path) -> None:
    out = prepared(tmp_path / "set", write_files(tmp_path / "plain", {f"{n}.png": picture(n) for n in range(5)}))
    assert [(row["labels"], row["repeat"]) for row in index_of(out)] == [([], 1.0)] * 5
    assert len(pq.read_table(out / "vocabulary.parquet")) == 0
    assert len(PreparedSet(out).vocabulary().labels) == 0


@pytest.mark.slow
def test_rows_of_one_image_are_one_and_repeats_have_the_mean(tmp_path: Path) -> None:
    files = {f"{number:03d}.png": picture(number) for number in range(240)}
    folder = write_files(tmp_path / "many", files)
    rows = [(name, "forest" if number % 12 else "forest;fern") for number, name in enumerate(files)]
    rows.insert(100, ("000.png", "oak"))
    lines = ["path,tags", *(f"{path},{tags}" for path, tags in rows)]
    (folder / "posts.csv").write_text("\n".join(lines))
    out = prepared(tmp_path / "set", folder / "posts.csv", shard_images=20)
    table = index_of(out)
    assert len(table) == 240
    assert names_of(out)[xxhash.xxh3_128_digest(files["000.png"])] == {"forest", "fern", "oak"}
    trained = [row["repeat"] for row in table if row["split"] == "pretrain"]
    assert np.mean(trained) == pytest.approx(5 / 3, rel=1e-5)
    assert 1 <= len(table) - len(trained) <= 24
    plain = {row["repeat"] for row in index_of(prepared(tmp_path / "plain", folder / "posts.csv", resample="none"))}
    assert plain == {1.0}


def test_nothing_outside_the_set_is_written_and_hostile_members_are_refused(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture(77))
    (photos / "inside.png").symlink_to(tmp_path / "secret.png")
    hostile = {f"../{'x'}.png": "a", str(tmp_path / "secret.png"): "b", "..\\y.png": "c", "inside.png": "d"}
    write_csv(photos / "posts.csv", {name: (tag,) for name, tag in hostile.items()} | TAGS)
    with tarfile.open(tmp_path / "hostile.tar", "w") as archive:
        for name, kind in (("../x", "0"), ("/etc/x", "0"), ("link", "2"), ("device", "3"), ("one", "0"), ("one", "0")):
            member = tarfile.TarInfo(f"{name}.png")
            member.type, member.linkname = kind.encode(), "/etc/passwd" if kind == "2" else ""
            content = picture(5) if kind == "0" else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name in ("code.pkl", "code.pyd"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    before = tree(tmp_path)
    out = prepared(tmp_path / "set", photos / "posts.csv", tmp_path / "hostile.tar")
    after = {name: content for name, content in tree(tmp_path).items() if not name.startswith("set/")}
    assert after == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hostile.tar", "photos", "secret.png", "set"]
    reasons = {row["key"]: row["reason"] for row in pq.read_table(out / "dropped.parquet").to_pylist()}
    assert len(reasons) == 4 + 7
    assert reasons["inside.png"] == "a symbolic link that leads out of the folder"
    assert reasons["../x.png"] == reasons["..\\y.png"] == "the path leaves the folder"
    assert "already" in reasons["hostile.tar/one.png"]
    assert [row["key"] for row in index_of(out) if "hostile" in row["shard"]] == ["one"]


def test_a_truncated_tar_gives_what_stands_before(tmp_path: Path) -> None:
    tars = write_tars(tmp_path / "tars", pictures(), TAGS)
    content = (tars / "00000.tar").read_bytes()
    (tars / "00000.tar").write_bytes(content[: len(content) // 2])
    out = prepared(tmp_path / "set", tars)
    assert 2 < len(index_of(out)) < len(TAGS)
    assert any("cut off" in row["reason"] for row in pq.read_table(out / "dropped.parquet").to_pylist())


def test_errors_name_the_value_and_the_fix(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*given: str) -> str:
        assert main(["prepare", *given]) == 2
        return capsys.readouterr().err

    out = ["--out", str(tmp_path / "set")]
    assert "nowhere does not exist; a SOURCE is a folder" in refused(str(tmp_path / "nowhere"), *out)
    (tmp_path / "empty").mkdir()
    assert "holds no images" in refused(str(tmp_path / "empty"), *out)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    assert "columns 'a', 'b', and none of a usual name for path" in refused(str(tmp_path / "bad.csv"), *out)
    assert "lie in each other" in refused(str(photos), "--out", str(photos / "set"))
    assert "lie in each other" in refused(str(photos / "animals"), "--out", str(photos))
    assert "must be 'all' or some of ['af'," in refused(str(photos), *out, "--language", "klingon")
    assert tree(photos) == pictures()
    assert "--tags" in refused(str(photos), *out, "--tags", str(tmp_path / "none.csv"))
    assert "must be at least 1" in refused(str(photos), *out, "--vocabulary-size", "0")
    (tmp_path / "m.csv").write_text("tag,label\na,b\na,c\n")
    assert "maps 'a' to 'c', after 'b'" in refused(str(photos), *out, "--mapping", str(tmp_path / "m.csv"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "thesis.txt" in refused(str(photos), "--out", str(tmp_path / "mine"))
    assert tree(tmp_path / "mine") == {"thesis.txt": b"mine"}


def test_the_command_says_what_was_done(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(photos / "tags.csv", TAGS)
    assert main(["prepare", str(photos), "--out", str(tmp_path / "set"), "--minimum-count", "2"]) == 0
    out, err = capsys.readouterr()
    assert f"{len(TAGS)} images, 3 labels, 0 left out" in out
    assert "photos: 6 images (4 .png, " in err
    assert "of 6 images looked at, 0 have tags beside a table's" in err
    assert err.index("looked at") < err.index("Counting the tags")
    assert main(["prepare", str(photos), "--out", str(tmp_path / "set")]) == 0
    assert "is prepared already" in capsys.readouterr().err


def test_every_option_of_the_command_reaches_the_set(tmp_path: Path, photos: Path) -> None:
    french = lexicon(tmp_path, "omw-fr", {"fougère": ["omw-fr-11545714-n"]}, {"omw-fr-11545714-n": "i0"})
    given = [
        "--parts-of-speech",
        "nouns",
        "--unknown-tags",
        "drop",
        "--language",
        "en",
        "--language",
        "fr",
        "--lexicon",
        french,
    ]
    given += ["--min-count", "1", "--vocabulary-size", "5", "--shard-images", "2"]
    assert main(["prepare", str(sidecar_txt(photos)), "--out", str(tmp_path / "set"), *given]) == 0
    settings = json.loads((tmp_path / "set" / "prepare.json").read_text())["settings"]
    rules = {"parts_of_speech": "nouns", "unknown_tags": "drop", "languages": ["en", "fr"], "lexicons": [french]}
    rules |= {"min_count": 1, "vocabulary_size": 5}
    assert settings["rules"].items() >= rules.items()
    assert settings["shard_images"] == 2
    labels = pq.read_table(tmp_path / "set" / "vocabulary.parquet").to_pylist()
    assert len(labels) == 5, "of brown bear, forest, dog, a walk that is a noun, fern, oak, tree"
    (fern,) = (row for row in labels if row["name"] == "fern")
    assert (fern["synset"], set(fern["tags"])) == ("n11545714", {"fern", "fougère"})
    assert len(list((tmp_path / "set" / "shards").iterdir())) > 1


def test_the_audit_explains_every_tag(tmp_path: Path, photos: Path) -> None:
    out = prepared(tmp_path / "set", sidecar_txt(photos), rules=TagRules(min_count=2))
    audit = {row["tag"]: row for row in pq.read_table(out / "tags_audit.parquet").to_pylist()}
    assert audit.keys() == {tag.lstrip("#") for tags in TAGS.values() for tag in tags}
    assert audit["BrownBear"]["label"] == audit["ursusarctos"]["label"] is not None
    assert audit["fern"]["decision"] == "cut"


def test_a_run_trains_on_the_set_and_names_its_labels(tmp_path: Path) -> None:
    """The repeats of the index included; the same images give the loss of a folder's labels a place to fall from."""
    photos = make_images(tmp_path / "photos")
    out = prepared(tmp_path / "set", photos, shard_images=30)
    run = wsp_run(out, steps=12)
    data = replace(run.data, source=str(out), labels="", resample="sqrt")
    result = execute(replace(run, data=data), tmp_path / "run")
    losses = [line["loss"] for line in log_lines(tmp_path / "run") if "loss" in line]
    assert result["samples"] == 12 * BATCH
    assert len(losses) == 12
    assert losses[-1] < losses[0]
    labels = json.loads((tmp_path / "run" / "model" / "labels.json").read_text())["labels"]
    assert labels == pq.read_table(out / "vocabulary.parquet")["name"].to_pylist()
    assert set(labels) == {"red", "green", "blue", "black", "wide", "tall"}


def test_keywords_that_are_not_read_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(io.BytesIO(xmp_png(picture(0), ("owl", "barn owl")))) as image:
        packet = image.info["xmp"]
    damaged = packet.replace(b"barn owl", b"barn \xff\xfe\xfd")
    images = {f"{len(one)}.jpg": encoded(photograph(0), "JPEG", xmp=one) for one in (packet, damaged + b" ")}
    folder = write_files(tmp_path / "photos", images)
    assert main(["prepare", str(folder), "--out", str(tmp_path / "set")]) == 0
    assert "not read 1 time: an XMP keyword with bytes that are not text" in capsys.readouterr().out
    assert sorted(map(len, names_of(tmp_path / "set").values())) == [1, 2]


def test_xmp_beside_an_image_is_read(tmp_path: Path) -> None:
    """Under both names that programs give it, written by Exiv2 (digiKam's library), and in UTF-16."""
    writer = tmp_path / "writer.jpg"
    writer.write_bytes(encoded(photograph(0), "JPEG"))
    with pyexiv2.Image(str(writer)) as image:
        image.modify_xmp({"Xmp.dc.subject": ["owl", "北京"]})
        packet = image.read_raw_xmp()
    images = {f"{name}.jpg": encoded(photograph(number), "JPEG") for number, name in enumerate("abcd")}
    beside = {"a.xmp": packet.encode(), "b.jpg.xmp": packet.encode("utf-16"), "c.xmp": b"<x:xmpmeta subject"}
    out = prepared(tmp_path / "set", write_files(tmp_path / "photos", {**images, **beside}))
    rows = pq.read_table(next((out / "prepare_work" / "rows").glob("*.parquet"))).to_pylist()
    assert {row["key"]: row["tags"] for row in rows} == {"a": ["owl", "北京"], "b": ["owl", "北京"], "c": [], "d": []}
    assert {row["key"]: bool(row["refused"]) for row in rows} == {"a": False, "b": False, "c": True, "d": False}
