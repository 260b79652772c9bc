"""Zero-shot transfer: against ``predict --labels`` and plain arithmetic, in several languages, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor

from support import clip_examples as clips
from underpaint import files, verbs
from underpaint.__main__ import main
from underpaint.data.loader import read_images
from underpaint.data.open_source import open_source
from underpaint.evals.average_precision import average_precision
from underpaint.evals.class_names import read_names, read_templates, table_hash
from underpaint.evals.text_features import Towers
from underpaint.evals.zeroshot import ZeroShot, embed_labels
from underpaint.evals.zeroshot_transfer import ZeroShotTransfer
from underpaint.inference import predict
from underpaint.run.towers import load_towers
from underpaint.weights.importing import import_weights

NAMES = {
    "en": {"c0": ["dog", "puppy"], "c1": ["cat"], "c2": ["snow"]},
    "fra": {"c0": ["chien"], "c1": ["chat"], "c2": ["neige"]},
    "de": {"c1": ["Katze"], "c2": ["Schnee"]},
}
TEMPLATES = {"en": ["a photo of a {}.", "{} in the snow"], "fr": ["un {}"]}
COUNT = 30


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    import_weights(clips.clip_folder(folder / "source"), folder / "out", clips.GIVEN)
    return folder / "out"


@pytest.fixture(scope="module")
def towers(imported: Path) -> Towers:
    return load_towers(imported)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of one colour each in three class folders, with tags of two kinds."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    rng = np.random.default_rng(0)
    tags = [("path", "tags")]
    for index in range(COUNT):
        name = f"c{index % 3}/{index:02d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        texture = rng.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
        Image.fromarray(texture).resize((40, 36), Image.Resampling.BILINEAR).save(folder / name)
        tags.append((name, ";".join(tag for tag, every in (("dog", 2), ("cat", 3), ("snow", 5)) if index % every == 0)))
    with (folder.parent / "tags.csv").open("w", newline="") as out:
        csv.writer(out).writerows(tags)
    return folder


def table(folder: Path, content: object, name: str = "names.json") -> str:
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def evaluate(towers: Towers, pictures: Path, *, tags: str = "", **fields: Any) -> list[Any]:
    source = open_source(str(pictures), tags=tags)
    evaluation = ZeroShotTransfer(dataset=str(pictures), images="all", **fields)
    return evaluation(towers, source=source, device=torch.device("cpu"), seed=0)


def plain_scores(towers: Towers, pictures: Path, names: Sequence[Sequence[str]], templates: Sequence[str]) -> Tensor:
    """Cosines from the embedding of each text alone, without the package's averaging."""
    source = open_source(str(pictures))
    images = [
        towers.model.embed_image(read_images(source, [row], format=towers.image_input)[0])
        for row in range(len(source.path))
    ]
    groups = []
    for group in names:
        texts = [template.format(name) for name in group for template in templates]
        mean = torch.stack([towers.model.embed_text(towers.tokenizer([text]))[0] for text in texts]).mean(dim=0)
        groups.append(mean / mean.norm())
    return torch.cat(images) @ torch.stack(groups).T


@torch.no_grad()
def test_languages_templates_and_the_ceiling_equal_plain_arithmetic(
    towers: Towers, pictures: Path, tmp_path: Path
) -> None:
    scores = evaluate(
        towers, pictures, names=table(tmp_path, NAMES), templates=table(tmp_path, TEMPLATES, "templates.json")
    )
    source = open_source(str(pictures))
    assert [(score.language, score.split) for score in scores] == [
        *(("en", "test"), ("fra", "test"), ("fra", "names"), ("de", "test"), ("de", "names"))
    ]
    by = {(score.language, score.split): score for score in scores}
    embedded: dict[str, Tensor] = {}
    for language, lines in (("en", TEMPLATES["en"]), ("fra", TEMPLATES["fr"]), ("de", ["a photo of a {}."])):
        classes = list(NAMES[language])
        rows = [row for row in range(COUNT) if source.label[row] in classes]
        cosines = plain_scores(towers, pictures, list(NAMES[language].values()), lines)[rows]
        hits = [classes[best] == source.label[row] for best, row in zip(cosines.argmax(dim=1), rows, strict=True)]
        score = by[language, "test"]
        assert score.correct == tuple(map(float, hits))
        assert score.image == tuple(source.path[row] for row in rows)
        assert score.chance == 1 / len(classes)
        embedded[language] = embed_labels(towers, list(NAMES[language].values()), lines)
    nearest = (embedded["fra"] @ embedded["en"].T).argmax(dim=1)
    assert by["fra", "names"].correct == tuple((nearest == torch.arange(3)).double().tolist())
    nearest = (embedded["de"] @ embedded["en"][1:].T).argmax(dim=1)  # of the classes that have a name in both
    assert by["de", "names"].correct == tuple((nearest == torch.arange(2)).double().tolist())
    assert "1 of 3 classes have no name here: left out" in by["de", "test"].remarks
    assert by["en", "test"].versions == {
        "names": table_hash({label: tuple(names) for label, names in NAMES["en"].items()}),
        "templates": table_hash(tuple(TEMPLATES["en"])),
    }


@torch.no_grad()
def test_logits_are_those_of_predict_with_labels(imported: Path, pictures: Path, tmp_path: Path) -> None:
    """An imported MAWS-CLIP gives the same to both verbs: probabilities, classes and the accuracy in the record."""
    labels = ["dog; puppy", "cat", "snow"]
    prompts = ["a photo of a {}.", "un {}"]
    (tmp_path / "labels.txt").write_text("\n".join(labels))
    (tmp_path / "prompts.txt").write_text("\n".join(prompts))
    for index, name in enumerate(("dog", "cat", "snow")):
        shutil.copytree(pictures / f"c{index}", tmp_path / "named" / name)
    predicted = {
        row.path: dict(row.labels) for row in predict(imported, [tmp_path / "named"], labels=labels, prompts=prompts)
    }
    towers = load_towers(imported)
    embedding = embed_labels(towers, [["dog", "puppy"], ["cat"], ["snow"]], prompts)
    source = open_source(str(tmp_path / "named"))
    image, _ = read_images(source, range(COUNT), format=towers.image_input)
    logits = towers.model.logit_scale.exp() * towers.model.embed_image(image) @ embedding.T
    tagger = ZeroShot(towers, labels, prompts)
    torch.testing.assert_close(tagger.logits(image), logits, rtol=0, atol=1e-5)
    for row, path in enumerate(source.path):
        shares = predicted[tmp_path / "named" / path]
        torch.testing.assert_close(
            torch.tensor([shares[name] for name in tagger.labels]), logits[row].softmax(dim=0), rtol=0, atol=1e-6
        )
    rows = verbs.evaluate(
        "zeroshot",
        imported,
        [
            f"dataset={tmp_path / 'named'}",
            f"names={tmp_path / 'labels.txt'}",
            f"templates={tmp_path / 'prompts.txt'}",
            "images=all",
        ],
    )
    best = [max(shares, key=lambda name: shares[name]) == path.parent.name for path, shares in predicted.items()]
    assert rows[0]["value"] == sum(best) / COUNT
    assert rows[0]["low"] <= rows[0]["value"] <= rows[0]["high"]


def test_the_command_prints_and_keeps_the_scores(
    imported: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["zeroshot", str(imported), f"dataset={pictures}", "images=all", "languages=fra,en"]
    assert main(["eval", *arguments, f"names={table(tmp_path, NAMES)}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pictures zeroshot test in fra: top1 ")
    assert "95% interval" in lines[0]
    assert lines[0].endswith(", chance 33.3")
    assert lines[1] == "  the languages of the captions that this model was trained on are not recorded"
    kept = [files.read_json(path) for path in (imported / "evals").glob("zeroshottransfer-pictures-*.json")]
    record = next(each for each in kept if each["evaluation"]["languages"])
    assert [row["language"] for row in record["rows"]] == ["fra", "fra", "en"]
    assert record["rows"][0]["versions"].keys() == {"names", "templates"}
    changed = {**NAMES, "en": {**NAMES["en"], "c1": ["kitten"]}}
    assert main(["eval", *arguments, f"names={table(tmp_path, changed)}"]) == 0
    again = [files.read_json(path) for path in (imported / "evals").glob("zeroshottransfer-pictures-*.json")]
    assert len(again) == len(kept) + 1  # the same file name with other names is another record


def test_a_language_that_the_run_never_saw_is_said(towers: Towers, pictures: Path, tmp_path: Path) -> None:
    lit = Towers(towers.model, towers.tokenizer, {"en": 400, "fr": 30, "": 5})
    scores = evaluate(lit, pictures, names=table(tmp_path, NAMES))
    unseen = [score.language for score in scores if any("saw no caption" in remark for remark in score.remarks)]
    assert unseen == ["de"]
    remark = next(remark for score in scores for remark in score.remarks if "saw no caption" in remark)
    assert remark.endswith("to be in 'de'; its captions by language: en 400, fr 30, not known 5")


@torch.no_grad()
def test_tags_are_scored_as_scikit_learn_does(towers: Towers, pictures: Path) -> None:
    tags = str(pictures.parent / "tags.csv")
    score = evaluate(towers, pictures, tags=tags, targets="tags")[0]
    source = open_source(str(pictures), tags=tags)
    rows = [row for row in range(COUNT) if source.tags[row]]
    cosines = plain_scores(towers, pictures, [["cat"], ["dog"], ["snow"]], ["a photo of a {}."])[rows].numpy()
    assert score.image == ("cat", "dog", "snow")
    for column, (tag, value) in enumerate(zip(score.image, score.correct, strict=True)):
        positive = [tag in source.tags[row] for row in rows]
        assert value == pytest.approx(average_precision_score(positive, cosines[:, column]), abs=1e-6)
    assert score.metric == "map"


def test_average_precision_with_ties_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 6, size=25).astype(float)
        positive = rng.random(25) < 0.3
        positive[0] = True
        assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))


def test_unreadable_images_are_wrong_and_told(towers: Towers, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures, tmp_path / "damaged")
    (tmp_path / "damaged" / "c0" / "00.png").write_bytes(b"no image")
    whole, score = evaluate(towers, pictures)[0], evaluate(towers, tmp_path / "damaged")[0]
    assert score.image == whole.image
    expected = dict(zip(whole.image, whole.correct, strict=True)) | {"c0/00.png": 0.0}
    assert dict(zip(score.image, score.correct, strict=True)) == expected
    assert score.remarks[0] == "1 of 30 test images could not be read and count as wrong: 'c0/00.png'"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"en": {"c0": ["dog"], "c1": [" "]}}, r"the class 'c1' in 'en' of .*has an empty name"),
        (
            {"en": {"c0": ["dog"], "c1": ["x" * 100_000]}},
            r"has a name of 100,000 letters, 'xxxxxxxxxxxxxxxxxxxx'\.\.\.",
        ),
        ({"en": {"c0": ["dog"], "c1": 3}}, "the names of 'c1' in 'en' are not a list of texts"),
        ({"en": {"c0": ["dog"], "c1": []}}, "the names of 'c1' in 'en' are not a list of texts"),
        ([1], "is not an object of objects"),
        ({"en": {"c0": ["dog"], "other": ["cat"]}}, "fewer than two of the 3 classes in 'en'"),
        ({}, "has no names"),
        ({"en": {"c0": ["dog\udc80"], "c1": ["cat"]}}, r"the text 'dog\\udc80' has half of a surrogate"),
    ],
)
def test_tables_of_names_that_cannot_be_used(
    towers: Towers, pictures: Path, tmp_path: Path, content: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(towers, pictures, names=table(tmp_path, content))


def test_what_else_is_refused_or_told(towers: Towers, imported: Path, pictures: Path, tmp_path: Path) -> None:
    names = table(tmp_path, NAMES)
    with pytest.raises(ValueError, match=r"a prompt needs \{\} where the label goes.*; not 'a photo'"):
        evaluate(towers, pictures, templates=table(tmp_path, {"en": ["a photo"]}, "bad.json"))
    with pytest.raises(ValueError, match="has no language 'fi'; it has en, fra, de"):
        evaluate(towers, pictures, names=names, languages=("fi",))
    with pytest.raises(ValueError, match="are those of a table of names: add names=FILE"):
        evaluate(towers, pictures, languages=("fi",))
    with pytest.raises(ValueError, match=r"names=.*absent\.json is not a file"):
        evaluate(towers, pictures, names=str(tmp_path / "absent.json"))
    both = {"en": {"c0": ["crane"], "c1": ["Crane", "bird"], "c2": ["snow"]}}
    remarks = evaluate(towers, pictures, names=table(tmp_path, both))[0].remarks
    assert "1 names stand for two classes or more, such as 'crane' for 'c0' and 'c1'" in remarks
    long = {"en": {"c0": ["snow " * 150], "c1": ["cat"]}}
    assert (
        "1 texts have more than 100 tokens, and are cut"
        in evaluate(towers, pictures, names=table(tmp_path, long))[0].remarks
    )
    unread = {"en": {"c0": ["\u200b"], "c1": ["cat"], "c2": ["ξψ"]}}
    remarks = evaluate(towers, pictures, names=table(tmp_path, unread))[0].remarks
    assert r"the tokenizer knows no part of 2 texts, such as '\u200b'" in remarks
    names = table(tmp_path, NAMES)
    scores = evaluate(towers, pictures, names=names, languages=("fra", "fr", "fra"))
    assert [score.language for score in scores] == ["fra"]
    with pytest.raises(ValueError, match="holds an encoder alone, which reads no texts; name a run of LiT or"):
        verbs.evaluate("zeroshot", imported / "encoder", [f"dataset={pictures}"])
    moved = shutil.copytree(imported, tmp_path / "moved")
    tokenizer = moved / "model" / "tokenizer" / "sentencepiece.bpe.model"
    tokenizer.write_bytes(tokenizer.read_bytes() + b"\0\0")
    with pytest.raises(ValueError, match="it is another model's tokenizer, or damaged"):
        verbs.evaluate("zeroshot", moved, [f"dataset={pictures}"])


def test_tables_in_every_form_hold_the_same(tmp_path: Path) -> None:
    expected = {"c0": ("dog", "puppy"), "c1": ("cat",)}
    (tmp_path / "names.csv").write_text("class,name,language\nc0,dog,en\nc0,puppy,en\nc1,  cat ,en\n")
    (tmp_path / "names.tsv").write_text("language\tname\tclass\nen\tdog\tc0\nen\tpuppy\tc0\nen\tcat\tc1\n")
    table(tmp_path, {"en": {"c0": ["dog", "puppy"], "c1": "cat"}})
    assert [read_names(tmp_path / f"names.{end}") for end in ("csv", "tsv", "json")] == [{"en": expected}] * 3
    assert read_names(Path(table(tmp_path, expected))) == {"": expected}
    (tmp_path / "lines.txt").write_text("dog; puppy\ncat\n")
    assert read_names(tmp_path / "lines.txt") == {"": {"dog": ("dog", "puppy"), "cat": ("cat",)}}
    for bad in ([["a {}"]], [3], "a {}"):
        with pytest.raises(ValueError, match="is not an object of lists of texts"):
            read_templates(Path(table(tmp_path, {"en": bad}, "templates.json")))
    (tmp_path / "templates.txt").write_text("a {}\nthe {}\n")
    assert read_templates(tmp_path / "templates.txt") == {"": ("a {}", "the {}")}
    for name, content, message in (
        ("a.csv", "class,title\nc0,dog\n", "lacks the columns class and name"),
        ("b.csv", "class,name\n,dog\n", "has a row without a class: name 'dog'"),
        ("blank.csv", "class,name\n  ,dog\n", "has a row without a class: name 'dog'"),
        ("c.csv", "class,name\nc0,\n", "the class 'c0' of .* has an empty name"),
        ("d.doc", "dog", r"must end in \.json, \.csv, \.tsv or \.txt"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            read_names(tmp_path / name)
