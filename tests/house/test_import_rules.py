"""The structure of the package, read from its source: who may import whom, what may not occur, how long things may be.

Every rule is a function from modules to complaints. It is applied to the package, and to a few lines that break it, so
that a rule which has stopped seeing anything fails as well.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "underpaint"

FOUNDATION = {
    "_version",
    "core",
    "keyed_random",
    "files",
    "config",
    "contents",
    "field_comments",
    "messages",
    "progress",
    "suggest",
    "user_modules",
}
EVERYTHING_TO_RUN = FOUNDATION | {
    "models",
    "costs",
    "objectives",
    "training",
    "data",
    "tags",
    "evals",
    "results",
    "texts",
}
MAY_IMPORT = {
    # The foundation: no part of it knows another, but for the hint at a name that a field may have,
    # and for what is said of a step.
    **{part: set[str]() for part in FOUNDATION},
    "config": {"suggest"},
    "progress": {"messages"},
    # The files that runs and studies leave, for everybody who writes or reads them.
    "results": {"files"},
    # The layers. `training` knows no objective, data, evaluation or model.
    # Texts to token ids, for the data, which read them, and the models, which take them.
    "texts": {"files"},
    "models": {"keyed_random", "files", "config", "core", "texts"},
    # The price of a network, for the planner.
    "costs": {"core", "models"},
    "training": {"config", "core", "keyed_random", "files", "messages", "progress"},
    "tags": {"core", "keyed_random", "files"},
    "data": FOUNDATION - {"_version", "contents"} | {"tags", "texts"},
    # From what somebody owns to a prepared set.
    "preparation": {"_version", "data", "keyed_random", "files", "messages", "progress", "results", "tags"},
    "objectives": {"config", "core", "costs", "keyed_random", "models"},
    # Evaluations train heads, prompts and poolings by the one training loop.
    "evals": {
        *("config", "core", "keyed_random", "files", "messages", "progress"),
        *("data", "models", "results", "texts", "training"),
    },
    # Proposals to mend the tags of a prepared set, and an audit of them; the head of a run is evidence.
    "tag_doctor": {
        *("keyed_random", "files", "messages", "progress", "suggest"),
        *("data", "evals", "objectives", "results", "run", "tags"),
    },
    # Weights from and to other tools.
    "weights": {"config", "files", "messages", "models", "objectives", "run", "core", "suggest", "texts"},
    # The wiring, and what sits on top of it.
    "run": EVERYTHING_TO_RUN,
    "recipes": EVERYTHING_TO_RUN | {"run"},
    "plan": EVERYTHING_TO_RUN | {"run", "recipes"},
    "studies": EVERYTHING_TO_RUN | {"run", "recipes"},
    "report": {"files", "messages", "results"},
    "feature_tables": {"files"},
    # Features by the machines of a cluster, on the engine of `prepare`.
    "cluster_features": {"data", "evals", "preparation", "progress", "training"},
    "inference": EVERYTHING_TO_RUN | {"run", "feature_tables", "cluster_features", "preparation"},
    # Predicted tags beside a user's images.
    "tagging": EVERYTHING_TO_RUN | {"run", "inference"},
    # Recipes fitted to images, and a folder of images with what can be run on it.
    "fitted_recipes": {"config", "core", "data", "models", "recipes", "run", "studies", "training"},
    "first_look": {"data", "files", "fitted_recipes", "messages", "preparation"},
    "printed_plan": {"config", "files", "recipes", "run"},
    # One run, by name or fitted.
    "one_run": EVERYTHING_TO_RUN | {"fitted_recipes", "preparation", "recipes", "report", "run"},
    # The encoder that users load: a ViT with the reading of its images.
    "image_encoder": {"data", "evals", "models"},
    # Images found by words: one query, or a page that needs no server.
    "search": EVERYTHING_TO_RUN | {"run"},
    "verbs": EVERYTHING_TO_RUN
    | {"one_run", "preparation", "printed_plan", "run", "recipes", "studies", "report", "weights"},
    "cli": FOUNDATION
    | {
        "training",
        "preparation",
        "plan",
        "studies",
        "report",
        "results",
        "weights",
        "inference",
        "search",
        "tagging",
        "tag_doctor",
        "first_look",
        "one_run",
        "printed_plan",
        "verbs",
    },
    "__main__": {"cli"},
}
"""Which parts (the second word of a module's name) a part may import besides itself, at the top of a file or inside."""

LIGHT = {
    "__init__",
    "__main__",
    "_version",
    "config",
    "contents",
    "files",
    "messages",
    "progress",
    "suggest",
    "user_modules",
}
"""The parts that `underpaint --help` imports, besides `cli`: the standard library only."""
FIRST_CHOICE = {"torch", "jaxtyping"}
IMAGES = {"numpy", "PIL", "torchvision"}
MAY_IMPORT_AT_TOP = {
    **{part: set[str]() for part in LIGHT},
    "results": set[str](),
    "texts": FIRST_CHOICE | {"xxhash"},
    "cli": {"rich_argparse"},
    "data": FIRST_CHOICE | IMAGES | {"xxhash"},
    "tags": {"numpy"},
    "preparation": {"numpy", "torch", "jaxtyping", "PIL", "pyarrow", "xxhash"},
    # Parts of the detector are torchvision's: its classes are derived from them.
    "models": FIRST_CHOICE | {"torchvision"},
    "evals": FIRST_CHOICE | {"numpy"},
    "search": FIRST_CHOICE | {"numpy", "xxhash"},
    "tagging": FIRST_CHOICE | {"numpy", "xxhash"},
    "studies": FIRST_CHOICE | {"numpy"},
    "tag_doctor": {"jaxtyping", "numpy"},
    "report": {"numpy"},
}
"""Third-party libraries of a part at the top of its files, where not FIRST_CHOICE; the others go inside the function
that needs them."""

VERBS = {
    *("prepare", "train", "evaluate", "run_study", "make_plan", "import_weights", "export_weights", "write_report"),
    *("search_images", "write_search_page", "load_encoder", "load_model"),
}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}
MAY_PRINT = {"cli", "messages"}
"""Parts."""
FORBIDDEN_IMPORTS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "subprocess"}
MAY_IMPORT_FORBIDDEN = {
    # It starts apt-get, dpkg-deb and npm, with lists of arguments, to get the packages that collections are made from.
    ("underpaint.data.collections.registries", "subprocess"),
    # It names the error that torch's weights-only loading raises; `forbidden` sees any call.
    ("underpaint.weights.pickled", "pickle"),
}
MAY_CATCH = {
    # The package tokenizers raises nothing narrower for a file that it cannot read.
    "underpaint.texts.tokenizer": {"Exception"},
    # Trackers raise classes of their own, of their transport and of databases, none of which may end a run.
    "underpaint.training.log_follower": {"Exception"},
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "hasattr", "torch.load", "os.system", "os.popen"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler"),
}
LOADS_PICKLES = ("underpaint.weights.pickled", "weights_only=True")
"""The one module that may call torch.load, to import weights, and what the call must say: then it runs nothing."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    tree: ast.Module
    lines: int

    @property
    def part(self) -> str:
        """``models`` for underpaint.models.vit, ``__init__`` for underpaint itself."""
        return self.name.split(".")[1] if "." in self.name else "__init__"

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Every node of the file."""
        return list(ast.walk(self.tree))

    @cached_property
    def calls(self) -> list[tuple[int, str]]:
        """Line and callee of every call: ``print``, ``torch.load``, ``step.loss.backward``."""
        return [(node.lineno, ast.unparse(node.func)) for node in self.nodes if isinstance(node, ast.Call)]


@dataclass(frozen=True)
class Import:
    """One imported name, as far as it is a module."""

    target: str
    line: int
    deferred: bool
    """Inside a function, or for the type checker only: not executed when the module is imported."""


Modules = dict[str, Module]
Rule = Callable[[Modules], Iterator[str]]


def parse(sources: dict[str, str]) -> Modules:
    """Modules from their sources by name."""
    return {name: Module(name, ast.parse(text), text.count("\n")) for name, text in sources.items()}


@cache
def package() -> Modules:
    """All modules of the package; a folder is named like its ``__init__``."""
    paths = sorted(PACKAGE.rglob("*.py"))
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths]
    return parse(
        {n.removesuffix(".__init__"): p.read_text(encoding="utf-8") for n, p in zip(names, paths, strict=True)}
    )


def imports(module: Module, modules: Modules) -> Iterator[Import]:
    """What a module imports, wherever the statement stands; relative imports are ruff's matter (TID)."""
    deferred = {
        inner
        for node in module.nodes
        if isinstance(node, Function) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for inner in ast.walk(node)
    }
    for node in module.nodes:
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [name if name in modules else node.module for name in full]
        else:
            continue
        yield from (Import(target, node.lineno, node in deferred) for target in targets)


def layers(modules: Modules) -> Iterator[str]:
    """A part imports only what the table allows; the package itself is the lazy front and may name everything."""
    for module in modules.values():
        if module.part not in {*MAY_IMPORT, "__init__"}:
            yield f"{module.name}: '{module.part}' has no line in MAY_IMPORT"
            continue
        for target, line in ((i.target, i.line) for i in imports(module, modules)):
            part = target.split(".")[1] if target.startswith("underpaint.") else module.part
            if module.part != "__init__" and part not in {module.part, *MAY_IMPORT[module.part]}:
                allowed = sorted(MAY_IMPORT[module.part])
                yield f"{module.name}:{line} imports {target}; '{module.part}' may import {allowed}"


def cycles(modules: Modules) -> Iterator[str]:
    """No module imports itself by a detour, not even from inside a function."""
    edges = {
        name: {i.target for i in imports(module, modules)} & (modules.keys() - {name, "underpaint"})
        for name, module in modules.items()
        if name != "underpaint"
    }
    while free := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in free:
            del edges[name]
    for name in edges:
        yield f"{name} is in a cycle of imports, or imports one: {sorted(edges[name] & edges.keys())}"


def face(modules: Modules) -> Iterator[str]:
    """The package's face, its lazy front for users, is imported by no part of it; each part names the room it needs."""
    for module in modules.values():
        for target, line in ((i.target, i.line) for i in imports(module, modules)):
            if target == "underpaint":
                yield f"{module.name}:{line} imports the package itself"


def libraries(modules: Modules) -> Iterator[str]:
    """Heavy and optional libraries are imported inside the one function that needs them."""
    for module in modules.values():
        allowed = {*MAY_IMPORT_AT_TOP.get(module.part, FIRST_CHOICE), *sys.stdlib_module_names, "underpaint"}
        for found in imports(module, modules):
            if not found.deferred and found.target.split(".")[0] not in allowed:
                yield f"{module.name}:{found.line} imports {found.target} at the top"


def names(modules: Modules) -> Iterator[str]:
    """No module is named like a verb of the package (it would shadow the function) or like nothing in particular.

    In ``cli`` there is one file per verb, which shadows nothing.
    """
    for name in modules:
        verbs = set[str]() if name.startswith("underpaint.cli.") else VERBS
        for word in set(name.split(".")) & (verbs | VAGUE):
            yield f"{name}: no module may be called '{word}'"


def one_backward(modules: Modules) -> Iterator[str]:
    """There is one training loop."""
    places = [f"{module.name}:{line}" for module in modules.values() for line in _calls(module, ".backward")]
    if [place.split(":")[0] for place in places] != ["underpaint.training.loop"]:
        yield f".backward( should occur once, in underpaint.training.loop; it occurs in {places}"


def forbidden(modules: Modules) -> Iterator[str]:
    """Nothing that runs code found in data, starts a shell, or probes for attributes."""
    for module in modules.values():
        for found in imports(module, modules):
            library = found.target.split(".")[0]
            if library in FORBIDDEN_IMPORTS and (module.name, library) not in MAY_IMPORT_FORBIDDEN:
                yield f"{module.name}:{found.line} imports {found.target}"
        for node in (node for node in module.nodes if isinstance(node, ast.Call)):
            called, said = ast.unparse(node.func), {ast.unparse(keyword) for keyword in node.keywords}
            allowed = called == "torch.load" and module.name == LOADS_PICKLES[0] and LOADS_PICKLES[1] in said
            if called in FORBIDDEN_CALLS and not allowed:
                yield f"{module.name}:{node.lineno} calls {called}"
        for node in module.nodes:
            if isinstance(node, ast.keyword) and node.arg == "shell":
                yield f"{module.name}:{node.value.lineno} passes shell="
            if isinstance(node, ast.ImportFrom) and node.module == "torch" and "load" in {a.name for a in node.names}:
                yield f"{module.name}:{node.lineno} imports torch.load"


def blind_except(modules: Modules) -> Iterator[str]:
    """An except clause names what it expects."""
    for module in modules.values():
        for node in module.nodes:
            if isinstance(node, ast.ExceptHandler):
                caught = (
                    {inner.id for inner in ast.walk(node.type) if isinstance(inner, ast.Name)} if node.type else set()
                )
                caught -= MAY_CATCH.get(module.name, set())
                if node.type is None or caught & {"Exception", "BaseException"}:
                    yield f"{module.name}:{node.lineno} catches everything"


def printing(modules: Modules) -> Iterator[str]:
    """Only the command line and the log speak to the user."""
    for module in modules.values():
        if module.part not in MAY_PRINT:
            yield from (f"{module.name}:{line} prints" for line in _calls(module, "print"))


def sizes(modules: Modules) -> Iterator[str]:
    """Files, functions and parameter lists stay short enough to be read at a glance."""
    for module in modules.values():
        if module.lines > MAX_FILE_LINES:
            yield f"{module.name} has {module.lines} lines, more than {MAX_FILE_LINES}"
        for function in (node for node in module.nodes if isinstance(node, Function)):
            where = f"{module.name}:{function.lineno} {function.name}"
            assert function.end_lineno is not None
            if (length := function.end_lineno - function.lineno + 1) > MAX_FUNCTION_LINES:
                yield f"{where} has {length} lines, more than {MAX_FUNCTION_LINES}"
            if (count := _parameters(function)) > MAX_PARAMETERS:
                yield f"{where} has {count} parameters, more than {MAX_PARAMETERS}"


def _calls(module: Module, callee: str) -> list[int]:
    """Lines that call ``name`` or ``a.name``; a callee like ``.name`` means a method of anything."""
    return [line for line, text in module.calls if text == callee or (callee[0] == "." and text.endswith(callee))]


def _parameters(function: Function) -> int:
    arguments = function.args
    named = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in named if name not in {"self", "cls"}]) + bool(arguments.vararg) + bool(arguments.kwarg)


RULES: list[Rule] = [layers, cycles, face, libraries, names, one_backward, forbidden, blind_except, printing, sizes]

LOOP = {"underpaint.training.loop": "loss.backward()\n"}
BROKEN: list[tuple[Rule, dict[str, str]]] = [
    (layers, {"underpaint.training.loop": "from underpaint.objectives.mae import MAE\n"}),
    (layers, {"underpaint.training.loop": "from underpaint import evals\n", "underpaint.evals": ""}),
    (layers, {"underpaint.core": "def f():\n    import underpaint.keyed_random\n"}),
    (layers, {"underpaint.report.page": "import underpaint.training.log as log\n"}),
    (layers, {"underpaint.newcomer": ""}),
    (cycles, {"underpaint.a": "from underpaint import b\n", "underpaint.b": "def f():\n    import underpaint.a\n"}),
    (face, {"underpaint.run": "import underpaint\n"}),
    (face, {"underpaint.run.record": "def f():\n    import underpaint\n    return underpaint.__version__\n"}),
    (face, {"underpaint.run": "from underpaint import __version__\n"}),
    (face, {"underpaint.cli.train": "import underpaint as package\n"}),
    (libraries, {"underpaint.evals.linear": "from sklearn.linear_model import LogisticRegression\n"}),
    (libraries, {"underpaint.config": "import torch.nn\n"}),
    (libraries, {"underpaint.models.vit": "try:\n    import timm\nexcept ImportError:\n    pass\n"}),
    (names, {"underpaint.train": ""}),
    (names, {"underpaint.data.prepare": ""}),
    (names, {"underpaint.cli.helpers": ""}),
    (names, {"underpaint.data.utils": ""}),
    (one_backward, {"underpaint.training.loop": "step.loss.backward()\nloss.backward()\n"}),
    (one_backward, {"underpaint.objectives.mae": "loss.backward()\n"}),
    (one_backward, LOOP | {"underpaint.evals.linear": "f(x).backward(retain_graph=True)\n"}),
    (one_backward, {"underpaint.training.loop": ""}),
    *((forbidden, {"underpaint.data.cache": f"{line}\n"}) for line in (
        "import pickle", "from pickle import loads", "def f():\n    import subprocess", "torch.load(path)",
        "from torch import load", "eval(text)", "exec(text)", "run(command, shell=True)", "hasattr(x, 'y')",
    )),
    *((blind_except, {"underpaint.run": f"try:\n    f()\n{clause}:\n    pass\n"}) for clause in (
        "except", "except Exception", "except (OSError, Exception) as error", "except BaseException",
    )),
    (forbidden, {"underpaint.data.collections.registries": "import pickle\n"}),
    (forbidden, {"underpaint.weights.pickled": "torch.load(path, mmap=True)\n"}),
    (forbidden, {"underpaint.weights.pickled": "torch.load(path, weights_only=False)\n"}),
    (forbidden, {"underpaint.weights.pickled": "import pickle\npickle.load(file)\n"}),
    (forbidden, {"underpaint.weights.weight_files": "torch.load(path, weights_only=True)\n"}),
    (printing, {"underpaint.data.cache": "print('hello')\n"}),
    (sizes, {"underpaint.run": "x = 1\n" * (MAX_FILE_LINES + 1)}),
    (sizes, {"underpaint.run": "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES}),
    (sizes, {"underpaint.run": "class A:\n    def f(self, a, b, c, d, *, e, f, g, h, i): ...\n"}),
    (sizes, {"underpaint.run": "async def f(a, b, c, d, e, f, g, h, **others): ...\n"}),
]  # fmt: skip

FINE = LOOP | {
    "underpaint": "def train():\n    from underpaint import run\n    return run\n",
    "underpaint.run": "import torch\nfrom underpaint.training.loop import train\n",
    "underpaint.evals.linear": "def f(model):\n    import sklearn\n    return model.eval()\n",
    "underpaint.models.vit": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import timm\n",
    "underpaint.data.cache": "try:\n    f()\nexcept (OSError, ValueError) as error:\n    raise Exception from error\n",
    "underpaint.data.collections.registries": "import subprocess\n",
    "underpaint.weights.pickled": "import pickle\ntorch.load(path, weights_only=True, mmap=True)\n",
    "underpaint.keyed_random": "class A:\n    def f(self, a, b, c, d, *, e, f, g, h): ...\n" + "    x = 1\n" * 300,
    "underpaint.objectives.mae": "class F:\n    def backward(self): ...\n",
    "underpaint.cli.train": "print('hello')\n",
}


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps(rule: Rule) -> None:
    complaints = list(rule(package()))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(("rule", "sources"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_breach_is_seen(rule: Rule, sources: dict[str, str]) -> None:
    assert len(list(rule(parse(sources)))) >= 1


@pytest.mark.parametrize("rule", RULES)
def test_what_is_fine_passes(rule: Rule) -> None:
    assert not list(rule(parse(FINE)))


def test_every_rule_has_been_broken() -> None:
    assert {rule for rule, _ in BROKEN} == set(RULES)


def test_every_line_of_the_table_is_about_something() -> None:
    parts = {module.part for module in package().values()}
    assert MAY_IMPORT.keys() <= parts, f"no such part any more: {sorted(MAY_IMPORT.keys() - parts)}"
