"""What every test runs under: shapes checked, one thread, no network for model hubs, a cache of their own.

Everything here must happen before the first import of torch or underpaint, hence at import or in pytest_configure.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import typechecker

# One thread: bits depend on the number of threads, and tensors this small are faster without a second one.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

# The oracles (timm, transformers) are built from their configurations; none may fetch weights.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

# Every annotated argument and result of the package is checked while the tests run, tensor shapes included.
typechecker.install("underpaint")


def pytest_configure(config: pytest.Config) -> None:
    """Give the tests, and the commands they start, a cache that lasts from one session to the next.

    Drawing the built-in collections takes longer than most tests, so they are kept in ``.pytest_cache``, apart from
    the user's own cache; ``pytest --cache-clear`` or ``make clean`` empties it.
    """
    assert config.cache is not None, "the tests need pytest's cacheprovider plugin"
    os.environ["UNDERPAINT_CACHE"] = str(config.cache.mkdir("underpaint"))
    if "PYTEST_XDIST_WORKER" not in os.environ:  # features are those of the code that computed them
        shutil.rmtree(config.cache.mkdir("underpaint") / "features", ignore_errors=True)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """The folder that stands for the user's cache; shared by all tests, so a test only adds to it."""
    return Path(os.environ["UNDERPAINT_CACHE"])


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of images with tags and classes; shared by the tests of a module, so a test only reads it."""
    from support.small_runs import make_images  # after the hook above

    return make_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window; the tests that ask for it are skipped where it or playwright is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def finished_mae(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of ``small_runs.mae_run``, which is that of ``support.small_runs:recipe``."""
    from support.small_runs import mae_run
    from underpaint.run import execute

    folder = tmp_path_factory.mktemp("finished") / "mae"
    execute(mae_run(images), folder)
    return folder
