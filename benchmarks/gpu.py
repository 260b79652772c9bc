"""All that is worth knowing of a GPU machine in some minutes: correctness first, then speed, memory and what limits it.

    python benchmarks/gpu.py --minutes 20 --out runs/gpu
    python benchmarks/gpu.py --dry --out runs/gpu_dry        # on a processor, with small networks: does the kit work?

In order of worth, as far as the minutes go: `pytest -m cuda`; what the card reaches at most; training steps of MAE and
WSP at ViT-S to H with memory and time beside `underpaint plan`; other tools beside ours; a profile of the slowest; the
loader; float8, CUDA graphs, recomputation. The same command again does what is left out. DIR/gpu.json has all results,
DIR/gpu.html shows them. Exits with 1 if a test or a part failed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gpu_parts
from gpu_page import page

ROOT = Path(__file__).resolve().parents[1]
TESTS = "tests"
TEST_SECONDS = 420.0
"""The tests may take so long, and are not begun where a third of it is not left."""
GRACE = 20.0
"""Seconds that a part may run over the end before its process is stopped."""
FORMAT = 1


def main() -> int:
    options = _options()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    deadline = time.time() + 60 * options.minutes
    setting = gpu_parts.Setting(out=out, device="cpu" if options.dry else "cuda", dry=options.dry)
    names = [TESTS, *(part.name for part in gpu_parts.parts(dry=options.dry))]
    wanted = [name for name in names if not options.only or any(name.startswith(text) for text in options.only)]
    if TESTS in wanted and TESTS not in finished(out):
        run_tests(setting, deadline)
    run_parts([name for name in wanted if name != TESTS], setting, deadline)
    content = collect(out, names, dry=options.dry)
    (out / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "gpu.html").write_text(page(content))
    print(summary(content))
    return int(bool(content["failed"]))


def finished(out: Path) -> set[str]:
    return {entry["part"] for entry in gpu_parts.read(out) if entry["state"] == "done"}


def run_tests(setting: gpu_parts.Setting, deadline: float) -> None:
    """`pytest -m cuda`, or of the same file what needs no GPU."""
    left = deadline - time.time()
    if left < TEST_SECONDS / 3 and not setting.dry:
        return
    report, started = setting.out / "tests.xml", time.time()
    chosen = ["-m", "not cuda"] if setting.dry else ["-m", "cuda"]
    file = "tests/training/test_cuda.py"
    command = [sys.executable, "-m", "pytest", "-q", file, *chosen, f"--junitxml={report}", "--durations=5"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with (setting.out / "tests.log").open("w") as log:
        try:
            subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=min(left, TEST_SECONDS))
        except subprocess.TimeoutExpired:
            print(f"the tests took more than {min(left, TEST_SECONDS):.0f} s", flush=True)
    entry: dict[str, Any] = {"part": TESTS, "seconds": round(time.time() - started, 1)}
    if report.is_file():
        gpu_parts.write(setting.out, {**entry, "state": "done", "result": read_report(report)})
        report.unlink()
    else:
        problem = (setting.out / "tests.log").read_text()[-400:]
        gpu_parts.write(setting.out, {**entry, "state": "failed", "problem": f"no report of pytest: {problem}"})


def read_report(path: Path) -> dict[str, Any]:
    """Names by outcome, and the first line of what failed."""
    found: dict[str, Any] = {"passed": [], "failed": {}, "skipped": {}}
    for test in ElementTree.parse(path).iter("testcase"):
        name = test.get("name", "")
        problem = next((part for part in test if part.tag in ("failure", "error")), None)
        skipped = test.find("skipped")
        if problem is not None:
            found["failed"][name] = (problem.get("message") or "")[:300]
        elif skipped is not None:
            found["skipped"][name] = (skipped.get("message") or "")[:200]
        else:
            found["passed"].append(name)
    return found


def run_parts(names: list[str], setting: gpu_parts.Setting, deadline: float) -> None:
    """In one process as long as it lives; where a part ends it, in another one for the parts behind it."""
    left = [name for name in names if name not in finished(setting.out)]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_parts.py"), "--out", str(setting.out)]
    command += ["--deadline", str(deadline), *(["--dry"] if setting.dry else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    while left and time.time() < deadline:
        try:
            done = subprocess.run([*command, *left], env=environment, timeout=deadline - time.time() + GRACE)
            ended, code = True, done.returncode
        except subprocess.TimeoutExpired:
            ended, code = False, -1
        last = gpu_parts.read(setting.out)[-1:]
        if not last or last[0]["state"] != "begun":
            if ended and code:
                print(f"the process of the parts ended with {code} before a part began", flush=True)
            return
        problem = f"its process ended with {code}" if ended else "cut off when the minutes were over"
        gpu_parts.write(setting.out, {"part": last[0]["part"], "state": "failed", "problem": problem})
        left = left[left.index(last[0]["part"]) + 1 :]


def collect(out: Path, names: list[str], *, dry: bool) -> dict[str, Any]:
    """The newest result of each part, and what has none."""
    ended = {entry["part"]: entry for entry in gpu_parts.read(out) if entry["state"] != "begun"}
    done = {name: entry["result"] for name, entry in ended.items() if entry["state"] == "done"}
    failed = {name: entry["problem"] for name, entry in ended.items() if entry["state"] == "failed"}
    failed |= {f"test {name}": text for name, text in done.get(TESTS, {}).get("failed", {}).items()}
    return {
        "format": FORMAT,
        "dry": dry,
        "machine": machine(dry=dry),
        "results": done,
        "seconds": {name: entry.get("seconds") for name, entry in ended.items()},
        "failed": failed,
        "left_out": [name for name in names if name not in ended],
    }


def machine(*, dry: bool) -> dict[str, Any]:
    import torch

    versions = {
        name: importlib.metadata.version(name)
        for name in ("torch", "torchvision", "torchao", "triton", "transformers", "timm", "lightly")
        if find_spec(name) is not None
    }
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions,
        "processors": len(os.sched_getaffinity(0)),
        "command": "python benchmarks/gpu.py " + " ".join(sys.argv[1:]),
    }
    if not dry and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_memory": properties.total_memory, "cuda": torch.version.cuda}
        found["capability"] = f"{properties.major}.{properties.minor}"
    return found


def commit() -> str:
    """Commit of the code: from git, or the file COMMIT where the code was copied without it."""
    named = ROOT / "COMMIT"
    if named.is_file():
        return named.read_text().strip()
    done = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def summary(content: dict[str, Any]) -> str:
    """A line for each training step, failure and omission."""
    lines = []
    tests = content["results"].get(TESTS)
    if tests:
        lines.append(
            f"tests: {len(tests['passed'])} passed, {len(tests['failed'])} failed, {len(tests['skipped'])} skipped"
        )
    for name, result in content["results"].items():
        if isinstance(result, dict) and "flops_per_second" in result:
            plan, gib = result["plan"], 1 << 30
            low, high = min(result["rates"]), max(result["rates"])
            lines.append(
                f"{name:34} {result['images_per_second']:9,.0f} images/s ({low:,.0f} to {high:,.0f}; "
                f"plan {plan['images_per_second']:,.0f}), {result['flops_per_second'] / 1e12:6.1f} TFLOP/s, "
                f"{result['peak_bytes'] / gib:6.2f} GiB (plan {plan['peak_bytes'] / gib:.2f}), "
                f"first step {result['first_step_seconds']:.1f} s"
            )
    lines += [f"FAILED {name}: {problem}" for name, problem in content["failed"].items()]
    lines += [f"left out: {', '.join(content['left_out'])}"] if content["left_out"] else []
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry", action="store_true", help="on a processor, with networks of a test")
    parser.add_argument("--only", nargs="+", default=[], help="parts whose names begin so")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
