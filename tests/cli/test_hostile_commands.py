"""Wrong and hostile input to the commands: one line that names the value, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from support.report_example import make_study
from support.small_runs import underpaint, wsp_run
from underpaint import files
from underpaint.cli.main import INPUT, MACHINE, main
from underpaint.cli.parser import VERBS
from underpaint.data.quarantine import Quarantine
from underpaint.data.source import Problem
from underpaint.results.study import Equal, Noise, PageKind, Role
from underpaint.run import execute


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "wsp"
    execute(wsp_run(images, steps=2), folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run to damage."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command ends with."""
    code = main(arguments)
    last = capsys.readouterr().err.splitlines()[-1]
    assert code == INPUT, last
    assert last.startswith("underpaint: ")
    return last


@pytest.mark.parametrize(
    "override",
    [
        "threads=1000000",  # OpenMP would end the process with a fault of memory
        "data.workers=100000",  # as many processes
        "data.workers=-1",
        "data.max_bad=2.0",
        "optim.base_lr=inf",
        "optim.betas=(1.0, 2.0)",
        "budget.batch_size=0",
        "budget.samples=5",
        "budget.warmup=1000000",
        "cadence.log=0",
        "cadence.save=-1",
        "max_skipped=0",
        "objective.encoder.width=-4",
        "objective.encoder.depth=0",
        "objective.encoder.depth=1000000000",
        "objective.encoder.width=1000000000",
        "objective.encoder.size=(1000000, 1000000)",
        "objective.encoder.heads=0",
        "objective.encoder.patch=0",
        "objective.encoder.mlp_ratio=0",
        "objective.decoder.heads=0",
        "objective.decoder.depth=-1",
        "name=../../elsewhere",
        "name=..",
    ],
)
def test_a_value_that_no_run_can_have_is_named(
    override: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    line = refused(["train", "mae_smoke", f"data.source={images}", override, "--out", str(out)], capsys)
    name, _, value = override.partition("=")
    assert name.rpartition(".")[2] in line
    assert value in line
    assert not out.exists()


@pytest.mark.parametrize(
    "content", ["null", "[]", '"x"', "{}", '{"format": 1, "labels": [1], "count": []}', '{"format": 99}', "[" * 99_999]
)
@pytest.mark.parametrize("verb", ["predict", "export"])
def test_labels_of_another_form_are_refused(
    verb: str, content: str, run: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model" / "labels.json").write_text(content)
    arguments = {"predict": [str(images)], "export": ["--to", "safetensors", "--out", str(run / "exported")]}[verb]
    assert "labels.json" in refused([verb, str(run), *arguments], capsys)


@pytest.mark.parametrize("content", ["null", "[]", '"x"', '{"format": 99}'])
def test_a_description_of_another_form_is_refused(content: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "model" / "config.json").write_text(content)
    assert "config.json" in refused(["export", str(run), "--to", "hf", "--out", str(run / "exported")], capsys)


def test_a_description_cannot_ask_for_memory_that_its_file_does_not_fill(
    run: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several terabytes, which the weights beside it do not hold."""
    path = run / "encoder" / "config.json"
    description = json.loads(path.read_text())
    description["config"] |= {"width": 2**16, "heads": 2**10}
    path.write_text(json.dumps(description))
    line = refused(["embed", str(run), str(images), "--out", str(run / "table.parquet")], capsys)
    assert "has shape" in line


@pytest.mark.parametrize("name", ["result.json", "env.json"])
def test_a_report_of_records_of_another_form_is_refused(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).write_text('{"format": 1, "run": 3, "lineage": "x", "starts": [4], "stage": 5}')
    before = (run / "report.html").read_bytes() if (run / "report.html").is_file() else b""
    assert str(run) in refused(["report", str(run)], capsys)
    assert ((run / "report.html").read_bytes() if (run / "report.html").is_file() else b"") == before


def test_a_number_of_more_digits_than_python_reads_is_refused_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text("9" * 5000)
    with pytest.raises(ValueError, match=r"long\.json is not valid JSON"):
        files.read_json(tmp_path / "long.json")


HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>" onmouseover="alert(3) \''


FIXED = {word for kind in (PageKind, Role, Equal, Noise) for word in get_args(kind)}
"""Words that a results file may have in certain places; any other is refused there."""


def hostile(value: Any) -> Any:
    """The same with markup in every text that is free."""
    if isinstance(value, dict):
        return {name: hostile(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return value + HOSTILE if isinstance(value, str) and value not in FIXED else value


def test_markup_in_every_text_of_a_study_is_shown_and_never_run(tmp_path: Path) -> None:
    make_study(tmp_path / "study")
    for path in (tmp_path / "study").rglob("*.json"):
        content = json.loads(path.read_text())
        if path.name != "pictures.json":  # its names of files are refused
            path.write_text(json.dumps(hostile(content)))
    for folder in (tmp_path / "study", tmp_path / "study" / "mae-seed0"):
        assert main(["report", str(folder)]) == 0
        page = (folder / "report.html").read_text()
        assert "&lt;script&gt;" in page
        assert "<script" not in page
        assert "<img src=x" not in page
        assert '" onmouseover="' not in page


def test_memory_that_torch_does_not_get_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setitem(VERBS, "list", replace(VERBS["list"], call=fail))
    assert main(["list"]) == MACHINE
    assert "can't allocate memory" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_names_that_are_no_utf8_are_counted_kept_and_printed(run: Path, images: Path, tmp_path: Path) -> None:
    """Linux allows any bytes in a name; a bad record of such a name ended the run without saying which."""
    mixed = Path(shutil.copytree(images, tmp_path / "images"))
    odd = mixed / os.fsdecode(b"odd\xff.png")
    odd.write_bytes(b"no image")
    quarantine = Quarantine(tmp_path / "bad_records.jsonl", images=100, max_bad=1)
    quarantine.add([Problem(key=odd.name, reason="it is no image")])
    assert len(Quarantine(tmp_path / "bad_records.jsonl", images=100, max_bad=1)) == 1
    assert json.loads((tmp_path / "bad_records.jsonl").read_text())["key"] == odd.name
    files.write_json(tmp_path / "one.json", {"name": odd.name})
    assert files.read_json(tmp_path / "one.json") == {"name": odd.name}
    assert main(["embed", str(run), str(odd), str(images), "--out", str(tmp_path / "table.parquet")]) == 0
    done = underpaint("predict", str(run), str(odd), str(images), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "odd\\udcff.png: " in done.stdout


def test_one_class_is_none_to_choose_from(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("path,class\n" + "".join(f"{name},cat\n" for name in names[:90]))
    data = [f"data.source={images}", f"data.labels={tmp_path / 'labels.csv'}"]
    line = refused(["train", "finetune_smoke", *data, "--out", str(tmp_path / "out")], capsys)
    assert "has one class alone, 'cat'" in line


def test_a_users_file_is_not_overwritten(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text("mine")
    for command in (["predict", str(run), str(images)], ["plan", "mae_vit_b16", "--device", "h100"]):
        assert "exists already" in refused([*command, "--json", str(mine)], capsys)
    assert mine.read_text() == "mine"


def test_a_function_that_is_no_recipe_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "gives a str, not a Run" in refused(["train", "os:getcwd"], capsys)


@pytest.mark.parametrize("place", ["{images}/new", "{images}/deep/runs/new"])
def test_outputs_among_the_images_are_refused(
    place: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's preview.png was one of its images when it went on."""
    mine = Path(shutil.copytree(images, tmp_path / "images"))
    out = place.format(images=mine)
    assert "lie in each other" in refused(["train", "mae_smoke", f"data.source={mine}", "--out", out], capsys)
    assert "lie in each other" in refused(["study", "stages", "--images", str(mine), "--out", out], capsys)
    assert not Path(out).exists()


@pytest.mark.parametrize("out", ["n" * 300, "loop", "loop/new"])
def test_a_name_that_no_folder_can_have_is_the_users_to_mend(
    out: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for command in (["train", "mae_smoke", f"data.source={images}"], ["prepare", str(images)]):
        assert out.partition("/")[0] in refused([*command, "--out", str(tmp_path / out)], capsys)


def test_a_home_that_nobody_has_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["train", "mae_smoke", "data.source=~nobody-here/x", "--out", str(tmp_path / "out")], capsys)
    assert "begins with ~" in line


def test_a_pipe_for_a_table_is_told_and_not_waited_for(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = ["train", "wsp_smoke", f"data.source={images}", f"data.tags={tmp_path / 'pipe'}"]
    assert "pipe is a device or a pipe" in refused([*command, "--out", str(tmp_path / "out")], capsys)
