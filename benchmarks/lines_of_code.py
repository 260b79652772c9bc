"""Lines of code for six common jobs with this package, lightly-train, timm and transformers, counted and run.

    python benchmarks/lines_of_code.py            # some minutes; --count-only runs nothing
    python benchmarks/lines_of_code.py --tools timm transformers

``benchmarks/jobs/JOB_TOOL.py`` is the shortest code that does the job in the way the tool's documentation does;
``JOB_TOOL.sh`` has commands of a tool's own command line. Lines are counted that are not blank, comments or imports,
as ruff formats them at the project's length of line; a shell command is one line, however long. The installed package
of a tool counts; scripts in its repository, which are to be copied first, do not.

All jobs of a tool run in their order in one folder of 160 small generated images in four classes, with small networks
of random weights, so they say that the code runs and nothing about accuracy. lightly-train, datasets and accelerate are
installed into an environment of their own in the cache folder (--environment), which shares all else with this one.
Exits with 1 if a job fails.
"""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import tokenize
from pathlib import Path

import numpy as np
from PIL import Image

from underpaint.data.cache import cache_folder

FOLDER = Path(__file__).parent / "jobs"
JOBS = {
    "pretrain": "pretrain an encoder on a folder without labels",
    "embed": "write the features of a folder's images to a table",
    "probe": "linear probe on a folder of classes, with its accuracy",
    "finetune": "finetune on a folder of classes, with its accuracy",
    "predict": "predict the classes of a folder's images into a file",
    "export": "write the encoder's weights for use elsewhere",
}
TOOLS = ("underpaint", "lightly_train", "timm", "transformers")
EXTRA = ("lightly-train==0.18.0", "datasets", "accelerate")
COLOURS = {"black": (20, 20, 20), "blue": (40, 60, 220), "green": (30, 190, 60), "red": (220, 40, 30)}
NOT_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def main() -> int:
    options = _options()
    count = {
        (job, tool): lines_of(script) for job in JOBS for tool in options.tools if (script := script_of(job, tool))
    }
    problems: dict[tuple[str, str], str] = {}
    if not options.count_only:
        python = environment(Path(options.environment) if options.environment else cache_folder() / "jobs_of_tools")
        with tempfile.TemporaryDirectory(prefix="jobs-") as scratch:
            for tool in options.tools:
                problems |= run_all(tool, python, Path(scratch) / tool)
    state = "counted" if options.count_only else "run"
    print(f"| job | {' | '.join(options.tools)} |\n|---|{'---|' * len(options.tools)}")
    for job, words in JOBS.items():
        cells = [_cell(count.get((job, tool)), (job, tool) in problems) for tool in options.tools]
        print(f"| {words} | {' | '.join(cells)} |")
    for (job, tool), problem in problems.items():
        print(f"{job} with {tool} failed: {problem}", file=sys.stderr)
    print(f"lines of code; all that are offered were {state}" if not problems else f"{len(problems)} failed")
    return 1 if problems else 0


def _cell(lines: int | None, failed: bool) -> str:
    if lines is None:
        return "not offered"
    return f"{lines}, failed" if failed else str(lines)


def script_of(job: str, tool: str) -> Path | None:
    """The script of a job with a tool; None where the tool does not offer it."""
    return next(
        (path for path in (FOLDER / f"{job}_{tool}{ending}" for ending in (".sh", ".py")) if path.exists()), None
    )


def lines_of(script: Path) -> int:
    """Number of lines that are not blank, comments or imports; of a shell script, its commands."""
    text = script.read_text(encoding="utf-8")
    if script.suffix == ".sh":
        return sum(bool(line.strip()) and not line.startswith("#") for line in text.splitlines())
    imports = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    with script.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in NOT_CODE]
    code = {line for token in tokens[1:] for line in range(token.start[0], token.end[0] + 1)}
    return len(code - imports)


def run_all(tool: str, python: Path, folder: Path) -> dict[tuple[str, str], str]:
    """Run the jobs of a tool in their order; the last words of those that failed."""
    make_folder(folder)
    path = os.pathsep.join((str(python.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    offline = {"HF_HUB_OFFLINE": "1", "LIGHTLY_TRAIN_EVENTS_DISABLED": "1", "CUDA_VISIBLE_DEVICES": ""}
    problems = {}
    for job in JOBS:
        script = script_of(job, tool)
        if script is None:
            continue
        print(f"{job} with {tool}", file=sys.stderr)
        command = ["sh", "-e", str(script)] if script.suffix == ".sh" else [str(python), str(script)]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **offline, "PATH": path}, capture_output=True, text=True
        )
        if done.returncode:
            problems[job, tool] = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return problems


def make_folder(folder: Path) -> None:
    """Textures in four colours in ``pictures/train`` and ``pictures/val``, and networks as transformers saves them."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    rng = np.random.default_rng(0)
    for part, count in (("train", 120), ("val", 40)):
        for number in range(count):
            name, colour = list(COLOURS.items())[number % len(COLOURS)]
            texture = rng.integers(0, 256, size=(6, 6, 3)) * 0.4 + np.array(colour) * 0.6
            path = folder / "pictures" / part / name / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(texture.astype(np.uint8)).resize((64, 64), Image.Resampling.BILINEAR).save(path)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    shape |= {"image_size": 64, "patch_size": 16}
    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    mae = transformers.ViTMAEConfig(**shape, **decoder, decoder_intermediate_size=64)
    transformers.ViTMAEForPreTraining(mae).save_pretrained(folder / "mae")
    transformers.ViTModel(transformers.ViTConfig(**shape)).save_pretrained(folder / "encoder")
    for name in ("mae", "encoder"):
        transformers.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder / name)


def environment(folder: Path) -> Path:
    """The Python of an environment with the tools that this one lacks."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    print(f"installing {shlex.join(EXTRA)} into {folder}", file=sys.stderr)
    subprocess.run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *EXTRA], check=True)
    return python


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tools", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--count-only", action="store_true")
    parser.add_argument("--environment", metavar="DIR", default="", help="environment of the tools, made where missing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
