"""Icons: which sets and icons are taken, untrusted SVG, colours, families, leaks, and what the collection promises."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.collections_at_hand import collection_or_skip
from underpaint.data.cache import cache_folder
from underpaint.data.collections import catalog, icon_drawing, icons
from underpaint.data.collections.icon_sets import Icon, concept, is_wanted, plain_name, read_credits, read_icons
from underpaint.data.decode.limits import BadImage
from underpaint.data.source import Source
from underpaint.files import read_json

SQUARE = '<path fill="currentColor" d="M4 4h16v16H4z"/>'
TRIANGLE = '<path fill="currentColor" d="M2 22h20L12 2z"/>'


def icon(body: str, *, name: str = "home", box: tuple[float, float, float, float] = (0, 0, 24, 24)) -> Icon:
    return Icon(prefix="x", name=name, body=body, box=box, tags=(), concepts=(concept(name),))


def test_an_icon_is_drawn_as_its_shape_says() -> None:
    drawn = np.asarray(icon_drawing.draw(icon(SQUARE), coloured=False))
    expected = np.full((96, 96, 3), 255)
    expected[16:80, 16:80] = 0
    assert np.abs(drawn.astype(int) - expected).max() <= 1


def test_the_box_gives_the_shape_of_the_image() -> None:
    assert icon_drawing.draw(icon(SQUARE, box=(0, 0, 24, 12)), coloured=False).size == (96, 48)
    shifted = np.asarray(icon_drawing.draw(icon(SQUARE, box=(4, 4, 16, 16)), coloured=False))
    assert shifted.max() <= 1


@pytest.mark.parametrize(
    "body",
    [
        '<image href="/etc/hostname"/>',
        '<use href="file:///etc/hostname#a"/>',
        '<g xlink:href="http://example.org/a.svg#a"/>',
        '<path d="M0 0h9v9z" fill="url(http://example.org/a.svg#a)"/>',
        '<path d="M0 0h9v9z" style="fill:url( /etc/a.svg#a)"/>',
        "<style>@import url(http://example.org/a.css)</style>",
        "<script>alert(1)</script>",
        "<text>secret</text>",
        "<foreignObject/>",
        '<g onload="alert(1)"/>',
        "<a/>",
        "&lol;",
        "</svg><svg>",
        "</svg><!DOCTYPE a>",
        "<!DOCTYPE a><g/>",
        "<?xml-stylesheet href='a'?>",
        "<g>" * 40 + "</g>" * 40,
        "<g/>" * 2000,
        f'<path d="{"M0 0h9" * 20_000}"/>',
        '<g id="a"><path d="M0 0h9v9z"/></g>' + '<use href="#a"/>' * 30,
        '<g mask="url(#m)"/>' * 30,
        '<g style="mask:url(#m)"/>' * 30,
        "<g/>",
        '<path fill="#fff" d="M4 4h16v16H4z"/>',
        "\x00",
    ],
)
def test_svg_that_leads_out_multiplies_or_shows_nothing_is_refused(body: str) -> None:
    with pytest.raises(BadImage):
        icon_drawing.draw(icon(body), coloured=True)


def test_a_refused_box() -> None:
    for box in ((0, 0, 0, 24), (0, 0, 24, -1), (0, 0, 1e9, 1e9), (float("nan"), 0, 24, 24), (0, 0, 100, 2)):
        with pytest.raises(BadImage):
            icon_drawing.draw(icon(SQUARE, box=box), coloured=False)


def test_references_within_the_svg_are_drawn() -> None:
    body = f'<defs><g id="a">{SQUARE}</g><linearGradient id="b"><stop/></linearGradient></defs><use href="#a"/>'
    body += '<circle r="1" fill="url(#b)"/>'
    assert np.asarray(icon_drawing.draw(icon(body), coloured=False))[48, 48, 0] == 0


def test_colours_differ_by_name_with_contrast_and_half_of_the_grounds_are_white() -> None:
    pairs = [icon_drawing.colours(f"x/{number}.png") for number in range(1000)]
    assert pairs == [icon_drawing.colours(f"x/{number}.png") for number in range(1000)]
    assert len(set(pairs)) == 1000
    assert all(icon_drawing.contrast(*pair) >= 3 for pair in pairs)
    assert 440 < sum(ground == (255, 255, 255) for _, ground in pairs) < 560


def test_contrast_is_that_of_wcag() -> None:
    assert icon_drawing.contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert icon_drawing.contrast((0x77, 0x77, 0x77), (255, 255, 255)) == pytest.approx(4.48, abs=0.005)  # known example


def test_colours_can_be_taken_back() -> None:
    drawing = icon_drawing.draw(icon(TRIANGLE), coloured=False)
    grey = np.asarray(drawing)[:, :, 0].astype(int)
    for number in range(50):
        pair = icon_drawing.colours(f"x/{number}.png")
        shown = np.asarray(icon_drawing.recoloured(drawing, *pair))
        assert tuple(shown[80, 48]) == pair[0]
        assert tuple(shown[0, 0]) == pair[1]
        back = icon_drawing.in_black(shown, *pair)
        assert np.abs(back.astype(int) - grey).max() <= 3


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("home-outline-24", "home"),
        ("outline-home", "home"),
        ("home-rounded", "home"),
        ("arrow-left-20-filled", "arrow-left"),
        ("outline", "outline"),
        ("dice-1", "dice-1"),
    ],
)
def test_names_without_styles(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_a_concept_ignores_order_sides_and_styles() -> None:
    names = ["circle-arrow-left", "arrow-right-circle-outline", "arrow-circle-up-16", "arrow-circle"]
    assert {concept(name) for name in names} == {"arrow circle"}
    assert concept("cat") != concept("dog")
    assert concept("123") == "123"


def test_only_permissive_sets_of_plain_icons_are_wanted() -> None:
    assert is_wanted({"license": {"spdx": "MIT"}, "category": "Material"})
    assert is_wanted({"license": {"spdx": "CC-BY-4.0"}})
    for spdx in ("CC-BY-SA-4.0", "CC-BY-NC-4.0", "GPL-3.0", "MPL-2.0", "OFL-1.1", ""):
        assert not is_wanted({"license": {"spdx": spdx}})
    assert not is_wanted({})
    assert not is_wanted({"license": {"spdx": "MIT"}, "hidden": True})
    for category in ("Emoji", "Logos", "Archive / Unmaintained"):
        assert not is_wanted({"license": {"spdx": "MIT"}, "category": category})


SETS = {
    "one": {"name": "One", "author": {"name": "A", "url": "u"}, "license": {"spdx": "MIT", "url": "l"}},
    "two": {"name": "Two", "license": {"spdx": "Apache-2.0"}, "palette": True},
    "three": {"name": "Three", "license": {"spdx": "GPL-3.0"}},
}
ONE = {
    "prefix": "one",
    "width": 24,
    "height": 24,
    "suffixes": {"": "Regular", "fancy": "Fancy"},
    "icons": {
        "polar-bear": {"body": SQUARE},
        "polar-bear-fancy": {"body": SQUARE},
        "polar-bear-outline": {"body": SQUARE},
        "house-2": {"body": TRIANGLE},
        "gone": {"body": SQUARE, "hidden": True},
        "../evil": {"body": SQUARE},
        "bad": {"body": "<script/>"},
        "turn-left": {"body": TRIANGLE.replace("22h20", "21h19"), "width": 48},
    },
    "aliases": {"home": {"parent": "house-2"}},
    "categories": {"FoodDrink": ["house-2"], "Account / User": ["house-2"]},
}
TWO = {
    "prefix": "two",
    "icons": {"home": {"body": SQUARE.replace("currentColor", "#f00"), "width": 24, "height": 24}},
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    (folder / "json").mkdir(parents=True)
    (folder / "collections.json").write_text(json.dumps(SETS))
    for content in (ONE, TWO):
        (folder / "json" / f"{content['prefix']}.json").write_text(json.dumps(content))
    return folder


def test_icons_of_a_set_with_their_words(package: Path) -> None:
    credits = read_credits(package)
    assert [(credit.prefix, credit.licence, credit.coloured) for credit in credits] == [
        ("one", "MIT", False),
        ("two", "Apache-2.0", True),
    ]
    taken = {icon.name: icon for icon in read_icons(package, credits[0])}
    assert {"house-2", "bad", "turn-left"} < set(taken)
    assert len(set(taken) & {"polar-bear", "polar-bear-fancy", "polar-bear-outline"}) == 1
    assert len(taken) == 4
    assert taken["house-2"].tags == ("house", "home", "food", "drink", "account", "user")
    assert taken["house-2"].concepts == ("house", "home")
    assert taken["turn-left"].box == (0, 0, 48, 24)
    assert not taken["turn-left"].flip


@pytest.mark.parametrize(
    "damage", ["[]", '{"icons": 3}', '{"icons": {"a": {}}}', '{"icons": {"a": {"body": "", "width": "x"}}}']
)
def test_another_package_is_refused(package: Path, damage: str) -> None:
    (package / "json" / "one.json").write_text(damage)
    with pytest.raises(ValueError, match=r"one\.json is not what @iconify/json has"):
        read_icons(package, read_credits(package)[0])


def get_package(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(packages: list[str], folder: Path, *, wanted: tuple[str, ...]) -> str:
        shutil.copytree(package, folder / "@iconify/json")
        return packages[0]

    monkeypatch.setattr(icons, "get_npm", get)


def test_the_collection_is_prepared_resumed_and_credited(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path / "cache"))
    get_package(package, monkeypatch)
    drawn: list[str] = []
    draw = icon_drawing.draw

    def interrupted(icon: Icon, *, coloured: bool) -> Image.Image:
        if icon.prefix == "two" and interrupting:
            raise KeyboardInterrupt
        drawn.append(f"{icon.prefix}/{icon.name}")
        return draw(icon, coloured=coloured)

    interrupting = True
    monkeypatch.setattr(icons, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        catalog.open_collection("icons")
    interrupting = False
    source = catalog.open_collection("icons")
    assert "4 of 5 icons were drawn before" in capsys.readouterr().err
    assert len(drawn) == len(set(drawn)) == 5  # nothing twice
    assert [path.rpartition("/")[0] for path in source.path] == ["images/one"] * 3 + ["images/two"]
    by_path = dict(zip(source.path, source.family, strict=True))
    assert by_path["images/one/house-2.png"] == by_path["images/two/home.png"]  # by the alias
    with (source.root / "credits.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["set"], row["licence"], row["images"]) for row in rows] == [
        ("one", "MIT", "3"),
        ("two", "Apache-2.0", "1"),
    ]
    assert not (source.root / "drawn").exists()


def test_near_duplicates_of_held_out_icons_are_left_out_whatever_their_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    star = '<path fill="currentColor" d="M12 1l3 8h8l-6 5 2 9-7-5-7 5 2-9-6-5h8z"/>'
    moved = star.replace("M12 1", "M12.05 1.05")
    chosen = {"x": [icon(star, name="star"), icon(moved, name="favourite"), icon(TRIANGLE, name="hill")]}
    credits = [_credit("x")]
    (tmp_path / "images").mkdir()
    drawings = icons.draw_sets(credits, chosen, tmp_path / "images")
    monkeypatch.setattr(icons, "heldout_families", lambda sizes, share: {"star"})
    splits = {record.path: record.splits for record in icons.split_records(drawings, tmp_path / "images", set())}
    assert splits == {
        "images/x/star.png": ("heldout",),
        "images/x/favourite.png": (),
        "images/x/hill.png": ("pretrain",),
    }
    counts = read_json(tmp_path / "leaks.json")
    assert (counts["heldout_with_near_duplicates"], counts["left_out"], counts["pretrain"]) == (1, 1, 1)


def _credit(prefix: str) -> icons.Credit:
    return icons.Credit(
        prefix=prefix, title="", author="", author_url="", licence="MIT", licence_url="", coloured=False
    )


def test_equal_drawings_are_one_family() -> None:
    made = [
        icons.Drawing(icon=icon("", name=name), pixels=pixels, prints=b"")
        for name, pixels in (("cat", "1"), ("pet", "1"), ("dog", "2"), ("dog-outline", "3"))
    ]
    assert icons.families(made) == ["cat", "cat", "dog", "dog"]


@pytest.mark.slow
def test_the_collection_as_its_registry_gives_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The whole way from the registry with a few of its sets: all of them take some ten minutes of drawing."""
    monkeypatch.setenv("UNDERPAINT_CACHE", str(tmp_path))
    monkeypatch.setattr(icons, "read_credits", lambda folder: read_credits(folder)[::36])
    source = collection_or_skip("icons")
    assert len({Path(path).parent for path in source.path}) == 4
    require_promises(source, images=500)


@pytest.mark.slow
def test_the_collection_keeps_its_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    edition = next(entry.edition for entry in catalog.COLLECTIONS if entry.name == "icons")
    monkeypatch.delenv("UNDERPAINT_CACHE")
    if not (cache_folder() / "collections" / f"icons-{edition}" / "collection.json").is_file():
        pytest.skip("the collection 'icons' is not in the user's cache")
    require_promises(catalog.open_collection("icons"), images=100_000)


def require_promises(source: Source, *, images: int) -> None:
    assert len(source.path) > images
    sides: dict[str, set[str]] = defaultdict(set)
    for family, splits in zip(source.family, source.splits, strict=True):
        sides[family].update(splits)
    assert all(len(splits) <= 1 for splits in sides.values())
    counts = read_json(source.root / "leaks.json")
    assert (counts["pretrain"], counts["heldout"]) == (len(source.rows("pretrain")), len(source.rows("heldout")))
    assert sum(bool(tags) for tags in source.tags) > 0.99 * len(source.path)
    for path in source.path[:: images // 20]:
        with Image.open(io.BytesIO((source.root / path).read_bytes())) as image:
            assert (image.mode, max(image.size)) == ("RGB", 96)
