"""The commands, as a person or a scheduler runs them: what they print, what they leave, and how they end."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from support.small_runs import SendSignal, log_lines, mae_run, python, underpaint
from underpaint import __version__, config, recipes, verbs
from underpaint.cli.main import INPUT, MACHINE, RESUMABLE, main
from underpaint.cli.parser import VERBS, parse
from underpaint.data.open_source import open_source
from underpaint.fitted_recipes import STAGES
from underpaint.run import execute, record
from underpaint.run.idle_fields import override_run
from underpaint.training.signals import Interrupted

HELP = """
import contextlib, io, json, sys
from underpaint.__main__ import main
pages = {}
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as page:
        try:
            main(arguments)
        except SystemExit as stop:
            assert stop.code == 0, arguments
    pages[" ".join(arguments)] = page.getvalue()
print(json.dumps({"pages": pages, "modules": list(sys.modules)}))
"""
SOURCES = """
import sys
from underpaint.__main__ import main
for recipe in sys.argv[1:]:
    assert main(["list", "--source", recipe]) == 0
"""
MAIN = "import sys; from underpaint.__main__ import main; sys.exit(main())"
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000)); " + MAIN


@pytest.fixture
def here(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; ``support.small_runs:recipe`` reads the images."""
    monkeypatch.setenv("SMALL_IMAGES", str(images))
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, before)


def one_clear_line(error: str) -> str:
    """The complaint of a command: no traceback, one line of its own."""
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("underpaint: ")]
    assert len(lines) == 1, error
    return lines[0]


def assert_same_weights(folder: Path, other: Path) -> None:
    mine, theirs = (load_file(f / "model" / "model.safetensors") for f in (folder, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())

    def numbers(run: Path) -> list[dict[str, object]]:
        return [{k: v for k, v in line.items() if k != "eval"} | line.get("eval", {}) for line in log_lines(run)]

    assert numbers(folder) == numbers(other)


# Help and lists


def test_every_help_has_examples_and_needs_nothing_heavy() -> None:
    wanted = [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)]
    done = python(HELP, json.dumps(wanted))
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    said = json.loads(out)
    assert not {"torch", "numpy", "PIL"}.intersection(said["modules"])
    assert said["pages"]["--version"] == f"underpaint {__version__}\n"
    for verb in VERBS:
        assert re.search(rf"^\s+{verb}\b", said["pages"]["--help"], re.MULTILINE)
        page = said["pages"][f"{verb} --help"]
        assert page.startswith(f"usage: underpaint {verb}")
        assert re.search(rf"examples:\n(  underpaint {verb}\b.*\n)+", page)
    assert "underpaint study stages" in said["pages"]["--help"]


@pytest.mark.parametrize("line", [line for line in VERBS["train"].examples.splitlines() if " train " in line])
def test_the_examples_of_train_are_right(line: str) -> None:
    words = shlex.split(line)[2:]
    if ":" not in words[0] and words[0] not in ("--config", *STAGES):
        run = config.override(recipes.find_recipe(words[0])(), [word for word in words[1:] if "=" in word])
        assert config.record(run)["name"] == words[0]


def test_list(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for title in ("recipes:", "studies:", "evaluations:", "collections:"):
        assert f"{title}\n" in out
    for name in [*map(recipes.published_name, recipes.__all__), "stages", "linear", "knn", "openmoji", "digits"]:
        (line,) = re.findall(rf"^  {re.escape(name)} +(.*)$", out, re.MULTILINE)
        assert line.strip(), f"{name} has no description"
    assert not list(here.iterdir())


@pytest.mark.parametrize("recipe", ["mae_laptop", "finetune_in1k_vit_b16"])
def test_the_listed_fields_are_overrides_that_change_nothing(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--fields", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    fields = [line for line in lines if not line.startswith(" ")]
    idle = {lines[number - 1] for number, line in enumerate(lines) if line.startswith("    no effect: ")}
    settable = [line for line in fields if line not in idle and not line.startswith(("evals=", "objective.stage="))]
    assert len(settable) > 50
    assert "optim.clip=inf" in settable
    assert "    Largest gradient norm." in lines
    run = recipes.find_recipe(recipe)()
    assert override_run(run, settable) == run


def test_the_fields_of_an_evaluation_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--fields", "lowshot"]) == 0
    assert "shots=5\n" in capsys.readouterr().out
    assert main(["list", "--fields", "lowshots"]) == INPUT
    assert "unknown recipe 'lowshots'" in capsys.readouterr().err


@pytest.mark.parametrize("study", verbs.STUDIES)
def test_the_fields_of_a_study_are_listed(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is an override of its design that changes nothing; a run in it stands for its fields."""
    assert main(["list", "--fields", study]) == 0
    fields = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    runs = [line for line in fields if line.endswith(".FIELD=value")]
    design = verbs.DESIGNS[study]("tiny")
    assert config.override(design, [line for line in fields if line not in runs]) == design
    assert runs
    assert any(line.startswith("seeds=") for line in fields)


@pytest.mark.slow
def test_list_source_names_the_lines(here: Path) -> None:
    """In a process of its own, where no type checker has wrapped the functions."""
    mae, labels = "def forward(self, batch: ImageBatch)", "def forward(self, batch: LabelBatch)"
    expected = {
        "mae_vit_b16": ("def mae_vit_b16(", mae),
        "mae_vit_6.5b14": ("def mae_vit_6b5_14(", mae),
        "wsp_laptop": ("def wsp_laptop(", labels),
        "support.small_runs:recipe": ("def recipe(", mae),
    }
    done = python(SOURCES, *expected)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    lines = iter(out.splitlines())
    for recipe_line, loss_line in expected.values():
        for what, wanted in (("recipe", recipe_line), ("loss", loss_line)):
            name, place = next(lines).split(maxsplit=1)
            file, _, number = place.rpartition(":")
            assert name == what
            assert wanted in Path(file).read_text(encoding="utf-8").splitlines()[int(number) - 1]


# The user's input


WRONG = [
    (["train"], r"train needs a RECIPE, or a --config FILE that --plan printed, and not both"),
    (["train", "mae_vit_b61"], r"unknown recipe 'mae_vit_b61'; did you mean mae_vit_b16\?"),
    (["train", "mae_smoke", "optim.base_rl=1"], r"unknown field 'optim\.base_rl'; did you mean optim\.base_lr\?"),
    (["train", "mae_smoke", "optim.base_lr=fast"], r"optim\.base_lr='fast' is not a number"),
    (["train", "mae_smoke", "budget.samples=1e30"], r"budget\.samples=1e\+30 is more than 1e\+15"),
    (["train", "mae_smoke", "budget.samples=5"], r"budget\.samples=5 is less than one batch of batch_size=64"),
    (["train", "mae_smoke", "data.source=./nowhere"], r"nowhere is not a folder"),
    (["train", "mae_smoke", "data.source=openmoij"], r"openmoij.*openmoji"),
    (["train", "mae_smoke", "extra"], r"'extra' is not an override; write field=value"),
    (["train", "support.small_runs:recipe", "init_from=./nothing"], r"nothing holds no encoder"),
    (
        [
            "train",
            "support.small_runs:recipe",
            "budget.samples=5000",
            "budget.batch_size=1000",
            "budget.microbatch=1000",
        ],
        r"images that",
    ),
    (["train", "support.small_runs:nothing"], r"'support.small_runs:nothing' cannot be imported"),
    (["eval", "liner", "."], r"unknown evaluation 'liner'.*linear"),
    (["eval", "linear", "./nothing", "dataset=digits"], r"nothing holds no encoder"),
    (["study", "stagse"], r"unknown study 'stagse'; did you mean stages\?"),
    (["study", "stages", "--size", "smoke", "--images", "./nothing"], r"nothing is not a folder"),
    (["report", "./nothing"], r"nothing"),
    (["list", "--source", "mae_vit"], r"unknown recipe 'mae_vit'; did you mean mae_vit_"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments[:3]) for arguments, _ in WRONG])
def test_the_users_input_ends_with_2_and_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == INPUT
    said = capsys.readouterr()
    assert re.search(message, one_clear_line(said.err))
    assert not said.out


MISUSED = [
    ("", "a verb is missing; known are look, prepare, tags, train, "),
    ("trian", "unknown verb 'trian'; did you mean train?"),
    ("--verison", "unknown option '--verison'; did you mean --version?"),
    ("report", "the following arguments are required: DIR ("),
    (
        "train wsp_smoke --labels x.csv",
        "unknown option '--labels'; a field is written without dashes: data.labels=VALUE",
    ),
    (
        "train mae_smoke --base-lr=1",
        "unknown option '--base-lr=1'; a field is written without dashes: optim.base_lr=VALUE",
    ),
    ("train unknown --labels x.csv", "unknown option '--labels'; did you mean --plan?"),
    ("train mae_smoke --ot x", "unknown option '--ot'; did you mean --out?"),
    ("prepare x --out y --min-cuont=3", "unknown option '--min-cuont=3'; did you mean --min-count?"),
    ("report x --zzz", "unknown option '--zzz'; known are --help, --no-images"),
    ("train mae_smoke --out x extra", "'extra' is not an override; write field=value"),
    ("report x extra", "unexpected word 'extra'"),
    ("study stages --size huge", "argument --size: invalid choice: 'huge'"),
]


@pytest.mark.parametrize(("line", "message"), MISUSED, ids=[line for line, _ in MISUSED])
def test_usage_errors_end_with_2_and_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == INPUT
    (error,) = capsys.readouterr().err.splitlines()
    verb = line.split()[0] if line.split()[:1] and line.split()[0] in VERBS else ""
    assert error.startswith(f"underpaint {verb}".rstrip() + f": {message}")
    assert error.endswith("--help)")


def test_old_spellings_work_and_no_help_shows_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = parse(["prepare", "x", "--out", "y", "--minimum-count", "3", "--parts", "nouns", "--outside", "drop"])
    assert old == parse(
        ["prepare", "x", "--out", "y", "--min-count", "3", "--parts-of-speech", "nouns", "--unknown-tags", "drop"]
    )
    assert (old.min_count, old.parts_of_speech, old.unknown_tags) == (3, "nouns", "drop")
    unset = parse(["prepare", "x", "--out", "y"])
    assert (unset.min_count, unset.parts_of_speech, unset.unknown_tags) == (None, None, None)
    for wrong in (["--outside", "some"], ["--parts", "verbs"], ["--minimum-count", "few"]):
        with pytest.raises(SystemExit):
            parse(["prepare", "x", "--out", "y", *wrong])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        parse(["prepare", "--help"])
    page = capsys.readouterr().out
    assert not re.search(r"--(outside|parts|minimum-count)\b(?!-of)", page)
    assert verbs.study_name("pays") == "ablations"


def test_a_field_may_follow_the_options(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mae_smoke", "optim.base_lr=1", "--plan", "threads=1", "optim.base_lr=2"]) == 0
    run = json.loads(capsys.readouterr().out)["run"]
    assert (run["optim"]["base_lr"], run["threads"]) == (2, 1)


# Training


def test_train_leaves_a_finished_run_and_a_report(here: Path, finished_mae: Path) -> None:
    assert main(["train", "support.small_runs:recipe"]) == 0
    folder = here / "runs" / "mae_test"
    assert json.loads((folder / "result.json").read_text())["steps"] == 6
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")[:500]
    assert_same_weights(folder, finished_mae)
    assert main(["train", "support.small_runs:recipe"]) == 0, "once more is no error"


def test_a_dry_run_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = here / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(here.parent / "inductor"))  # torch's own, kept on purpose
    for overrides in (["schedule.kind=cosine"], ["schedule.kind=wsd", "schedule.cooldown=0.6"]):
        assert main(["train", "support.small_runs:recipe", *overrides, "--dry-run"]) == 0
        said = capsys.readouterr().err
        assert "dry run of mae_test: two steps, a checkpoint each, evaluation, model and report" in said
        assert "the whole run has 6 steps" in said
    assert sorted(path.name for path in here.rglob("*")) == ["tmp"]


@pytest.mark.parametrize(("given", "source"), [("photos", "./photos"), ("my/photos", "my/photos")])
def test_data_is_a_folder_whatever_its_name(given: str, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "mae_smoke", "--data", given, "--plan"]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["data"]["source"] == source


def test_the_installed_command_finds_recipes_where_one_works(here: Path) -> None:
    (here / "my_lab.py").write_text("from support.small_runs import recipe as mae_satellite\n")
    command = Path(sys.executable).with_name("underpaint")
    done = subprocess.run(
        [command, "list", "--source", "my_lab:mae_satellite"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "small_runs.py" in done.stdout


def start(folder: Path, *overrides: str, sleep: float) -> subprocess.Popen[str]:
    """``underpaint train`` in a process group of its own, up to the middle of its first evaluation."""
    arguments = ["train", "support.small_runs:recipe", *overrides, "--out", str(folder)]
    process = python(MAIN, *arguments, new_group=True, SMALL_SLEEP=str(sleep))
    deadline = time.monotonic() + 60
    while not ((log := folder / "log.jsonl").is_file() and '"step": 3,' in log.read_text()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "overrides"),
    [
        pytest.param(signal.SIGINT, [], id="Ctrl-C"),
        pytest.param(signal.SIGTERM, ["data.workers=2"], id="SIGTERM with workers"),
    ],
)
def test_a_signal_saves_and_prints_the_command_that_continues(
    here: Path, finished_mae: Path, number: int, overrides: list[str]
) -> None:
    """The terminal and schedulers signal the whole process group."""
    process = start(here / "run", *overrides, sleep=0.5)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == RESUMABLE, err
    assert "Traceback" not in err
    said = err.splitlines()
    assert f"stopped at step 3; the state is saved in {here / 'run'}; continue with" in said[-2]
    words = shlex.split(said[-1])
    assert words == ["underpaint", "train", "support.small_runs:recipe", *overrides, "--out", str(here / "run")]
    assert main(words[1:]) == 0
    assert_same_weights(here / "run", finished_mae)


@pytest.mark.slow
def test_a_second_process_is_refused(here: Path) -> None:
    with record.lock(here / "run"):
        done = underpaint("train", "support.small_runs:recipe", "--out", here / "run")
    assert done.returncode == INPUT
    assert "another process is working in" in one_clear_line(done.stderr)


@pytest.mark.slow
def test_a_full_disk_ends_with_3_and_keeps_the_old_checkpoint(here: Path, images: Path, finished_mae: Path) -> None:
    """A limit on the size of files stands for the disk: real errors from real calls."""
    with pytest.raises(Interrupted):
        execute(replace(mae_run(images), evals=(SendSignal(number=signal.SIGTERM),)), here / "run")
    kept = {p: p.read_bytes() for p in (here / "run" / "checkpoints" / "step-00000003").iterdir()}
    limited = python(LIMITED, "train", "support.small_runs:recipe", "cadence.save=16", "--out", here / "run")
    _, err = limited.communicate(timeout=60)
    assert limited.returncode == MACHINE, err
    assert one_clear_line(err).startswith("underpaint: 3 checkpoints in a row were not saved; free some space")
    alarms = [line for line in err.splitlines() if line.startswith("ALARM: the checkpoint of step ")]
    assert len(alarms) == 3
    assert all(line.endswith("the newest good one is step-00000003") for line in alarms)
    assert {path: path.read_bytes() for path in kept} == kept
    assert sorted(p.name for p in (here / "run" / "checkpoints").iterdir()) == ["step-00000002", "step-00000003"]
    assert main(["train", "support.small_runs:recipe", "--out", str(here / "run")]) == 0
    assert_same_weights(here / "run", finished_mae)


def kill_9_until_done(folder: Path, *, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    for _ in range(kills):
        process = python(MAIN, "train", "support.small_runs:recipe", "--out", folder, SMALL_SLEEP="0.2")
        deadline = time.monotonic() + 60
        while process.poll() is None and not (folder / "run.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(3.0 * rng.random())
        process.kill()
        process.communicate()
    assert main(["train", "support.small_runs:recipe", "--out", str(folder)]) == 0


@pytest.mark.slow
def test_kill_9_at_any_moment_changes_no_bit(here: Path, finished_mae: Path) -> None:
    for seed in range(2):
        folder = here / f"run{seed}"
        kill_9_until_done(folder, seed=seed, kills=4)
        assert_same_weights(folder, finished_mae)
        assert not list(folder.rglob("*.part")), seed
        shutil.rmtree(folder)


@pytest.mark.slow
def test_eval_takes_the_classes_of_a_folder_and_says_what_it_knows(here: Path, finished_mae: Path) -> None:
    """Classes from a file, where the folder has none; a test image that cannot be read stands in output and file."""
    folder = here / "flat"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["path,class"]
    for number in range(40):
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]}")
    (here / "classes.csv").write_text("\n".join(rows) + "\n")
    tested = open_source(str(folder), labels=str(here / "classes.csv"))
    broken = folder / tested.path[tested.rows("test")[0]]
    broken.write_bytes(broken.read_bytes()[:60])
    run = Path(shutil.copytree(finished_mae, here / "run"))
    done = underpaint("eval", "knn", run, "dataset=./flat", "--labels", "classes.csv", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "flat knn test: top1 " in done.stdout
    assert "report: " in done.stderr
    assert "flat" in (run / "report.html").read_text(), "the run's report holds its evaluations"
    assert " images could not be read" in done.stdout
    assert repr(tested.path[tested.rows("test")[0]]) in done.stdout
    (file,) = (run / "evals").glob("knn-flat-*.json")
    remarks = [remark for row in json.loads(file.read_text())["rows"] for remark in row["remarks"]]
    assert any("could not be read" in remark for remark in remarks)
    assert "seed" not in json.loads(file.read_text())
    idle = underpaint("eval", "knn", run, "dataset=./flat", "--labels", "classes.csv", "--seed", "1", cwd=here)
    assert idle.returncode == 2
    assert "Knn draws nothing" in idle.stderr
    assert "--seed 1" in idle.stderr
    drawn = underpaint("eval", "lowshot", run, "dataset=./flat", "--labels", "classes.csv", "--seed", "1", cwd=here)
    assert drawn.returncode == 0, drawn.stderr
    assert [json.loads(each.read_text())["seed"] for each in (run / "evals").glob("lowshot-*.json")] == [1]
    missing = underpaint("eval", "knn", run, "dataset=./flat", cwd=here)
    assert missing.returncode == 2
    assert "--labels" in missing.stderr


def test_writing_tags_beside_images_that_are_not_there_names_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "run", str(tmp_path / "photos"), "--write", "xmp"]) == 2
    assert f"folder {tmp_path / 'photos'} is missing" in capsys.readouterr().err


def test_a_remark_of_several_rows_is_printed_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(dataset: str, *remarks: str) -> list[dict[str, object]]:
        common = {"protocol": "lowshot_vpt", "shots": 1, "language": "", "metric": "top1", "value": 0.5, "n_test": 8}
        return [
            {"dataset": dataset, "split": split, "remarks": list(remarks), **common} for split in ("0", "1", "mean")
        ]

    evaluated = [*rows("one", "no preset", "few images", "few images"), *rows("two", "no preset", "few images")]
    monkeypatch.setattr(verbs, "evaluate", lambda *_, **__: evaluated)
    assert main(["eval", "lowshot_vpt", "run", "dataset=one"]) == 0
    printed = [
        line if line.startswith(" ") else line.partition(":")[0] for line in capsys.readouterr().out.splitlines()
    ]
    of_one = [f"one lowshot_vpt 1-shot {split}" for split in ("0", "1", "mean")] + ["  no preset", "  few images"]
    assert printed == [*of_one, *(line.replace("one", "two") for line in of_one)]


def test_a_start_by_the_module_is_recorded_as_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/home/somebody/underpaint/__main__.py", "/usr/bin/underpaint"):
        monkeypatch.setattr(sys, "argv", [program, "study", "transfer"])
        assert record.environment().get("command") == ["underpaint", "study", "transfer"]
