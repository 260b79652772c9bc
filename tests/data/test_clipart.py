"""Open Clip Art, Tux Paint and the vendors' emoji: reading their files, and what the prepared collections promise."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.collections_at_hand import collection_or_skip
from underpaint.data.cache import cache_folder
from underpaint.data.collections import catalog, emoji_sets, openclipart, tuxpaint
from underpaint.data.collections.emoji_concepts import Drawing, families
from underpaint.data.collections.families import file_families, linked_families, stem_concept
from underpaint.data.collections.openmoji_categories import HELD_OUT, category
from underpaint.data.collections.thumbnails import write_thumbnails
from underpaint.data.collections.tuxpaint import Stamp
from underpaint.data.source import Record, Source
from underpaint.files import read_json

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:dc="http://purl.org/dc/elements/1.1/">{}</svg>'
)
SUBJECT = "<metadata><rdf:RDF><dc:subject><rdf:Bag>{}</rdf:Bag></dc:subject></rdf:RDF></metadata>"
PETS = SUBJECT.format(
    "<rdf:li> Cat </rdf:li><rdf:li>pet</rdf:li><rdf:li>cat</rdf:li><rdf:li/><rdf:li>E\u0301t\u00e9</rdf:li>"
)


@pytest.mark.parametrize(
    ("content", "tags"),
    [
        (SVG.format(PETS), ("cat", "pet", "été")),
        (SVG.format(PETS).replace("rdf:Bag", "rdf:Seq"), ("cat", "pet", "été")),
        (SVG.format("<g/>"), ()),
        (SVG.format(SUBJECT.format("")), ()),
        (SVG.format("<rdf:Bag><rdf:li>a layer</rdf:li></rdf:Bag>"), ()),  # outside dc:subject
        (SVG.format(PETS + "<g>"), ("cat", "pet", "été")),  # breaks after the keywords
        ("", ()),
        ("no xml at all", ()),
        (SVG.format('<image xlink:href="data:image/png;base64,AA"/>' + PETS), ("cat", "pet", "été")),
        (SVG.format(PETS + '<image xlink:href="/home/me/photo.jpg"/>'), None),
        (SVG.format(PETS.replace("pet", "a&amp;b")), ("cat", "a&b", "été")),
    ],
)
def test_keywords_of_a_drawing(tmp_path: Path, content: str, tags: tuple[str, ...] | None) -> None:
    file = tmp_path / "a.svg"
    file.write_text(content, encoding="utf-8")
    assert openclipart.read_svg(file) == tags


def test_a_missing_drawing_and_multiplying_entities_are_harmless(tmp_path: Path) -> None:
    assert openclipart.read_svg(tmp_path / "none.svg") == ()
    bomb = "<!DOCTYPE svg [<!ENTITY a0 'aaaaaaaaaa'>"
    bomb += "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 12)) + "]>"
    (tmp_path / "a.svg").write_text(bomb + SVG.format(PETS.replace("pet", "&a11;")))
    assert openclipart.read_svg(tmp_path / "a.svg") is not None


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        ({"animals/birds"}, "bird"),
        ({"animals/birds/penguin"}, "bird"),
        ({"animals", "animals/birds"}, "bird"),  # the upper folder says nothing new
        ({"animals"}, ""),
        ({"animals/birds", "food"}, ""),
        ({"animals/birds", "animals/bugs"}, ""),
        ({"tools"}, "tool"),
        ({"tools/weapons", "tools"}, "weapon"),
        ({"people/stickmen"}, ""),
        ({"animalsx/birds"}, ""),
    ],
)
def test_the_class_is_what_the_folders_agree_on(folders: set[str], name: str) -> None:
    assert openclipart.class_of(frozenset(folders)) == name


def test_links_tell_further_folders_and_never_lead_out(tmp_path: Path) -> None:
    root = tmp_path / "png"
    for name in ("a/one.png", "b/two.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "b" / "one.png").symlink_to("../a/one.png")
    (root / "b" / "three.png").symlink_to("../../secret.png")
    (root / "b" / "four.png").symlink_to("nowhere.png")
    assert openclipart.folders_of_files(root) == {"a/one.png": {"a", "b"}, "b/two.png": {"b"}}


def test_of_a_long_series_a_few_are_taken() -> None:
    stars = [f"shapes/star_{number:02}pt.png" for number in range(500)]
    others = ["a/owl.png", "b/cat.png"]
    chosen = openclipart.without_long_series([*stars, *others])
    assert len(chosen) == openclipart.SERIES_MOST + 2
    assert set(others) < set(chosen)
    assert openclipart.without_long_series(reversed([*stars, *others])) == chosen


@pytest.mark.parametrize(
    "same",
    [
        "bus1_bw_jarno_vasamaa_01 bus1_jarno_vasamaa_01 bus1_red_jarno_vasamaa_02",
        "star_05pt02step star_97pt11step",
        "arrow-left arrow-right",
        "dumper dumper_mirror",
        "people_juliane_krug_06c people_juliane_krug_01a",
    ],
)
def test_variants_have_one_concept(same: str) -> None:
    assert len({stem_concept(stem) for stem in same.split()}) == 1


def test_other_names_are_other_concepts() -> None:
    names = ["apple_mateya_01", "apple_ganson", "pear_mateya_01", "01", "02", "a1", "red", "blue", "été"]
    assert len({stem_concept(name) for name in names}) == len(names)


def test_families_are_the_connected_components_of_the_links() -> None:
    generator = np.random.default_rng(3)
    links = {f"i{n}": [int(link) for link in generator.integers(0, 60, size=2)] for n in range(40)}
    found = linked_families(links)
    reach = {item: {item} for item in links}  # by brute force
    for _ in links:
        for one in links:
            for other in links:
                if any(set(links[a]) & set(links[other]) for a in reach[one]):
                    reach[one].add(other)
    for one in links:
        assert {other for other in links if found[other] == found[one]} == reach[one]


def test_equal_pixels_are_one_family() -> None:
    family = file_families({"a/owl.png": "1", "b/night bird.png": "1", "b/cat.png": "2"})
    assert family["a/owl.png"] == family["b/night bird.png"] != family["b/cat.png"]


def test_thumbnails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = Image.new("RGBA", (600, 400), (0, 0, 0, 0))
    drawn.paste((255, 0, 0, 255), (100, 100, 500, 200))
    drawn.save(tmp_path / "drawn.png")
    Image.new("L", (30, 20), 7).save(tmp_path / "small.png")
    Image.new("RGBA", (30, 30), (255, 255, 255, 255)).save(tmp_path / "blank.png")
    Image.new("L", (900, 10), 7).save(tmp_path / "thin.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    files = {f"x/{file.name}": file for file in sorted(tmp_path.glob("*.png"))}
    hashes = write_thumbnails(files, tmp_path / "out", trim=True, description="")
    assert set(hashes) == {"x/drawn.png", "x/small.png"}
    assert "3 of 5 images cannot be used" in capsys.readouterr().err
    with Image.open(tmp_path / "out/x/drawn.png") as image:
        assert (image.mode, image.size, image.getextrema()) == ("RGB", (128, 32), ((255, 255), (0, 0), (0, 0)))
    with Image.open(tmp_path / "out/x/small.png") as image:
        assert (image.mode, image.size) == ("RGB", (30, 20))
    write_thumbnails({"y.png": tmp_path / "drawn.png"}, tmp_path / "out", trim=False, description="")
    with Image.open(tmp_path / "out/y.png") as image:
        assert (image.size, image.getpixel((0, 0))) == ((128, 85), (255, 255, 255))


CAPTIONS = (
    "A red koala.\nde.utf8=Ein Koala.\nca@valencia.utf8=Un coala.\nzh_CN.utf8=树袋熊。\nml.utf8=ഒരു കോല\nnonsense\n"
)


def test_captions_are_english_first_and_without_the_names_of_languages(tmp_path: Path) -> None:
    assert tuxpaint.captions(CAPTIONS) == ["A red koala.", "Ein Koala.", "Un coala.", "树袋熊。", "ഒരു കോല"]
    assert tuxpaint.captions("") == [""]
    (tmp_path / "koala.png").touch()
    (tmp_path / "koala.txt").write_bytes(CAPTIONS.encode() + b"\xff\n")
    stamp = tuxpaint.read_stamp(tmp_path / "koala.png")
    assert stamp.tags == ("red", "koala", "ein", "un", "coala", "树袋熊", "ഒരു", "കോല")
    assert (stamp.photo, stamp.flip) == (True, True)


def test_what_the_files_beside_a_stamp_say(tmp_path: Path) -> None:
    folder = tmp_path / "animals" / "cartoon"
    folder.mkdir(parents=True)
    for name in ("cartoon/a.png", "b.png", "b.svg", "c.png", "c_mirror.png"):
        (tmp_path / "animals" / name).touch()
    (tmp_path / "animals" / "c.dat").write_text("scale=15%\nnomirror\n")
    (tmp_path / "animals" / "c.txt").write_text("A clock.")
    read = {path.stem: tuxpaint.read_stamp(path) for path in tmp_path.rglob("*.png")}
    assert {stem: stamp.photo for stem, stamp in read.items()} == {"a": False, "b": False, "c": True, "c_mirror": True}
    assert read["c"] == Stamp(tags=("clock",), photo=True, flip=False)
    assert (read["c_mirror"].tags, read["c_mirror"].flip) == (("clock",), False)
    assert read["a"].tags == ()


def test_photographs_are_tested_on_and_drawings_of_the_same_thing_left_out() -> None:
    def stamp(photo: bool) -> Stamp:
        return Stamp(tags=("x",), photo=photo, flip=True)

    letters = [chr(ord("a") + number) for number in range(26)]
    stamps = {f"animals/birds/{one}{one}.png": stamp(True) for one in letters}
    stamps |= {f"animals/birds/cartoon/{one}{one}.png": stamp(False) for one in letters[:5]}
    stamps |= {f"town/{one}{other}.png": stamp(True) for one in letters for other in letters if one != other}
    records = tuxpaint.records(stamps, {path: path for path in stamps})
    found = Counter((Path(record.path).parts[1], record.splits) for record in records)
    assert found[("animals", ("train",))] == tuxpaint.FEWEST
    assert found[("animals", ("test",))] == 26 - tuxpaint.FEWEST
    assert found[("animals", ())] == 5
    assert found[("town", ("pretrain",))] + found[("town", ("heldout",))] == 26 * 25


SHEET = [
    {"unified": "1F44B", "short_name": "wave", "subcategory": "hand"},
    {"unified": "2639-FE0F", "short_name": "white_frowning-face", "subcategory": "face"},
    {"unified": "1F3FB", "short_name": "skin-tone-2", "subcategory": "skin-tone"},
]


def test_tags_of_emoji_are_keywords_and_the_words_of_the_short_name() -> None:
    found = emoji_sets.emoji_tags(SHEET, {"👋": ["Waving_Hand", " wave ", ":D"], "☹": ["sad"]})
    assert found == {(0x1F44B,): ("waving_hand", "wave", ":d"), (0x2639, 0xFE0F): ("sad", "white", "frowning", "face")}
    with pytest.raises(ValueError, match=r"emoji.json is not what emoji-datasource"):
        emoji_sets.emoji_tags([{"name": "x"}], {})


def test_equal_drawings_of_two_concepts_are_one_family() -> None:
    flags = [Drawing(file=Path(f"{n:x}.png"), codes=(0x1F1E6, 0x1F1E6 + n), names={"en": f":{n}x:"}) for n in (1, 2, 3)]
    assert len(set(families(flags).values())) == 3
    assert len(set(families(flags, pixels={"1": "a", "2": "b", "3": "a"}).values())) == 2


NEW = ["openclipart", "tuxpaint", "emoji-twitter", "emoji-google"]

# The real collections: looked at where this machine has them in the user's own cache; a slow test gets them from
# their registries, where these answer.


@pytest.mark.slow
@pytest.mark.parametrize("name", NEW)
def test_a_collection_as_its_registry_gives_it(name: str) -> None:
    source = collection_or_skip(name)
    require_separate_sides(name, source)
    require_tags_and_pictures(source)
    require_published_splits(name, source)


def prepared(name: str, monkeypatch: pytest.MonkeyPatch) -> Source:
    edition = next(entry.edition for entry in catalog.COLLECTIONS if entry.name == name)
    monkeypatch.delenv("UNDERPAINT_CACHE")
    if not (cache_folder() / "collections" / f"{name}-{edition}" / "collection.json").is_file():
        pytest.skip(f"the collection '{name}' is not in the user's cache")
    return catalog.open_collection(name)


@pytest.mark.parametrize("name", NEW)
def test_no_family_and_no_picture_stands_on_both_sides_of_a_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_separate_sides(name, prepared(name, monkeypatch))


def require_separate_sides(name: str, source: Source) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for row, splits in enumerate(source.splits):
        assert len(splits) <= 1
        assert bool(source.label[row]) == bool({"train", "test"} & set(splits))
        sides[source.family[row]].update(splits)
        sides[(source.root / source.path[row]).read_bytes().hex()].update(splits)
    assert all(len(found) <= 1 for found in sides.values())
    train, test = (Counter(source.label[row] for row in source.rows(split)) for split in ("train", "test"))
    assert train.keys() == test.keys()
    assert min(test.values()) >= 6
    assert min(train.values()) >= (9 if name == "openclipart" else 10)


@pytest.mark.parametrize("name", NEW)
def test_tags_and_pictures_are_as_promised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_tags_and_pictures(prepared(name, monkeypatch))


def require_tags_and_pictures(source: Source) -> None:
    for tags in source.tags:
        assert len(set(tags)) == len(tags)
        assert all(tag and tag == tag.strip() == tag.lower() for tag in tags)
    assert any(source.flip)
    assert not all(source.flip)
    for path in source.path[::10]:
        with Image.open(source.root / path) as image:
            assert image.mode == "RGB"
            assert 8 <= min(image.size) <= max(image.size) <= 128


MADE_FROM = {
    "openclipart": "openclipart-png 1:0.18+dfsg-19, openclipart-svg 1:0.18+dfsg-19",
    "tuxpaint": "tuxpaint-stamps-default 2022.06.04-1",
}
PUBLISHED = {
    "openclipart": {"pretrain": 4193, "heldout": 179, "train": 511, "test": 528, "none": 77},
    "tuxpaint": {"pretrain": 262, "heldout": 8, "train": 126, "test": 204, "none": 16},
    "emoji-twitter": {"pretrain": 1394, "heldout": 43, "train": 283, "test": 186},
    "emoji-google": {"pretrain": 1394, "heldout": 43, "train": 283, "test": 186},
}


@pytest.mark.parametrize("name", NEW)
def test_the_splits_stay_as_they_were_published(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_published_splits(name, prepared(name, monkeypatch))


def require_published_splits(name: str, source: Source) -> None:
    made_from = read_json(source.root / "collection.json")["made_from"]
    if made_from != MADE_FROM.get(name, made_from):
        pytest.skip(f"this machine has {made_from}; the numbers are those of {MADE_FROM[name]}")
    assert Counter(split for splits in source.splits for split in splits or ("none",)) == PUBLISHED[name]


def test_a_concept_of_the_transfer_task_is_pretrained_on_in_no_set_of_emoji(monkeypatch: pytest.MonkeyPatch) -> None:
    split_of: dict[str, dict[str, tuple[str, ...]]] = {}
    for name in ("emoji-twitter", "emoji-google", "openmoji"):
        source = prepared(name, monkeypatch)
        monkeypatch.setenv("UNDERPAINT_CACHE", "")
        split_of[name] = {}
        for path, splits in zip(source.path, source.splits, strict=True):
            codes = tuple(int(code, 16) for code in Path(path).stem.split("-"))
            key = "-".join(f"{code:x}" for code in codes if code != 0xFE0F)
            split_of[name][key] = splits
            if category(codes) in HELD_OUT:
                assert splits in (("train",), ("test",))
    for codes in split_of["emoji-google"]:
        found = {split for splits in split_of.values() for split in splits.get(codes, ())}
        assert found <= {"train", "test"} or found <= {"pretrain", "heldout"}, codes


def test_records_of_clip_art_hold_most_of_a_class_out(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{one}{other}" for one in "abcdefghij" for other in "klmnopqrst"]
    folders = {f"food/fruit/{name}.png": frozenset({"food/fruit"}) for name in names}
    folders |= {f"shapes/{name}x.png": frozenset({"shapes", "shapes/arrows"}) for name in names}
    records = openclipart.records(folders, dict.fromkeys(folders, ("t",)), {path: path for path in folders})
    fruit: list[Record] = [record for record in records if "fruit" in record.path]
    assert Counter(record.splits for record in fruit)[("test",)] == 40
    assert Counter(record.splits for record in fruit)[("train",)] == 40
    assert {record.label for record in records} == {"fruit", ""}
    assert all(record.flip == ("fruit" in record.path) for record in records)
