"""The rules of the house that no single function's test can watch over."""

import ast
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import kronax as kx

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "kronax"
EVERY_FILE = [pytest.param(file, id=file.relative_to(PACKAGE).as_posix()) for file in sorted(PACKAGE.rglob("*.py"))]
EVERY_SOLVER = [case for case in EVERY_FILE if case.id.startswith("solvers/")]

# What a solver may import, besides the standard library. tqdm draws the progress bar of the host loops.
SOLVER_IMPORTS = sys.stdlib_module_names | {"jax", "numpy", "scipy", "threadpoolctl", "tqdm"}
# Adam, for the one solver that trains; communities are igraph's, and compared as scikit-learn does.
MORE_IMPORTS = {
    "kronax.solvers.tensor.factors.train": {"optax"},
    "kronax.solvers.communities.consensus": {"sklearn"},
    "kronax.solvers.communities.igraph_edges": {"igraph"},
    "kronax.solvers.rows.on_dask": {"dask"},
}

FORBIDDEN = {
    "JAX's experimental and private modules": re.compile(r"jax\.(experimental(\.|$)|_(?!_))"),
    "JAX's global settings": re.compile(r"jax\.config\.(update|\w+ =)"),
    "scanpy's private names": re.compile(r"scanpy(\.\w+)*\._(?!_)"),
}

HEAVY = ["scanpy", "scanpy.plotting", "matplotlib.pyplot", "umap", "numba", "sklearn"]


def module_of(file: Path) -> str:
    return ".".join(("kronax", *file.relative_to(PACKAGE).with_suffix("").parts))


MODULES = {module_of(file).removesuffix(".__init__") for file in PACKAGE.rglob("*.py")}
parse = cache(ast.parse)  # every file is looked at several times, and so are its imports and paths


@cache
def imports(tree: ast.AST, module: str) -> list[tuple[str, str]]:
    """Pair every name that an import statement binds, anywhere in the file, with the dotted path it stands for."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.append((alias.asname or alias.name, alias.name))
                if not alias.asname:  # "import a.b" binds a
                    top = alias.name.split(".")[0]
                    found.append((top, top))
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*parents, *([node.module] if node.module else [])])
            found += [(alias.asname or alias.name, f"{source}.{alias.name}") for alias in node.names]
    return found


def dotted(node: ast.expr, bound: dict[str, str]) -> str | None:
    """The full dotted path of ``a.b.c``, when ``a`` was imported."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in bound:
        return ".".join([bound[node.id], *reversed(parts)])
    return None


@cache
def paths_used(source: str, module: str = "kronax.example") -> set[str]:
    """Every dotted path that a file imports, reads or (then with ``=`` at its end) assigns to."""
    tree = parse(source)
    bound = dict(imports(tree, module))
    used = {path for _, path in imports(tree, module)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (path := dotted(node, bound)):
            used.add(path if isinstance(node.ctx, ast.Load) else f"{path} =")
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                used.add(str(node.args[0].value))
    return used


def forbidden(source: str) -> dict[str, str]:
    return {path: what for path in paths_used(source) for what, rule in FORBIDDEN.items() if rule.match(path)}


def outside_of_solvers(source: str, module: str) -> set[str]:
    return {
        path
        for _, path in imports(parse(source), module)
        if path.split(".")[0] not in SOLVER_IMPORTS | MORE_IMPORTS.get(module, set())
        and not f"{path}.".startswith("kronax.solvers.")
    }


@pytest.mark.parametrize("file", EVERY_SOLVER)
def test_solvers_know_arrays_only(file):
    assert outside_of_solvers(file.read_text(encoding="utf-8"), module_of(file)) == set()


# A file may import from its own layer and from those before it.
LAYERS = (
    ("solvers",),
    ("_logging",),
    ("_data",),
    ("datasets", "metrics", "get", "pp", "tl"),
    ("pl",),
    ("_cli",),
    ("__main__",),
)


def layer_of(module: str) -> int:
    """The number of a module's layer; the package itself stands above all."""
    top = (module.split(".") + [""])[1]
    return next((number for number, names in enumerate(LAYERS) if top in names), len(LAYERS))


def modules_imported(source: str, module: str) -> set[str]:
    """The modules of kronax that a file imports when it is loaded."""
    paths = {path for _, path in imports(parse(source), module) if path.split(".")[0] == "kronax"}
    return {path if path in MODULES else path.rpartition(".")[0] for path in paths} & MODULES


def upward(source: str, module: str) -> set[str]:
    return {
        path
        for path in modules_imported(source, module)
        if path != "kronax" and layer_of(path) > layer_of(module) and module != "kronax"
    }


@pytest.mark.parametrize("file", EVERY_FILE)
def test_imports_go_one_way(file):
    assert upward(file.read_text(encoding="utf-8"), module_of(file).removesuffix(".__init__")) == set()


def test_the_rule_of_layers_finds():
    assert upward("from kronax.tl import med_magma", "kronax._data.matrix") == {"kronax.tl"}
    assert upward("from kronax._data import keys", "kronax.solvers.device") == {"kronax._data.keys"}
    assert not upward("from kronax.solvers import device", "kronax._data.matrix")


def test_no_file_imports_itself_in_a_circle():
    arrows = {
        module_of(file).removesuffix(".__init__"): modules_imported(
            file.read_text(encoding="utf-8"), module_of(file).removesuffix(".__init__")
        )
        for file in PACKAGE.rglob("*.py")
        if file.name != "__init__.py"
    }
    done: set[str] = set()
    while ready := {
        name for name, needs in arrows.items() if name not in done and not (needs & arrows.keys()) - done - {name}
    }:
        done |= ready
    assert done == arrows.keys()


def test_the_root_holds_the_package_and_a_logger():
    assert {file.stem for file in PACKAGE.glob("*.py")} == {"__init__", "__main__", "_logging"}


def test_every_folder_is_on_the_map():
    page = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
    folders = {file.parent.relative_to(PACKAGE).as_posix() for file in PACKAGE.rglob("*.py")} - {"."}
    assert not {folder for folder in folders if f"`{folder}`" not in page}


@pytest.mark.parametrize(
    "line",
    [
        "import anndata as ad",
        "from mudata import MuData",
        "import scanpy.tools",
        "def f():\n    import pandas as pd",
        "from kronax.tl import med_magma",
        "from kronax import pp",
        "import kronax",
        "from .. import _keys",
        "from ..pl import graph",
    ],
)
def test_solver_rule_finds(line):
    assert outside_of_solvers(line, "kronax.solvers.example")


def test_optax_for_the_training_alone():
    assert outside_of_solvers("import optax", "kronax.solvers.tensor.factors.model")
    assert not outside_of_solvers("import optax", "kronax.solvers.tensor.factors.train")


@pytest.mark.parametrize(
    "line",
    [
        "import math",
        "import jax.numpy as jnp",
        "from scipy import sparse",
        "from tqdm.auto import tqdm",
        "from kronax.solvers.scales.quotient import quotient",
        "from kronax.solvers import graph",
        "from . import graph",
        "from .graph import top",
    ],
)
def test_solver_rule_allows(line):
    assert not outside_of_solvers(line, "kronax.solvers.example")


@pytest.mark.parametrize("file", EVERY_FILE)
def test_documented_interfaces_only(file):
    assert forbidden(file.read_text(encoding="utf-8")) == {}


@pytest.mark.parametrize(
    "source",
    [
        "import jax.experimental.sparse",
        "from jax.experimental import enable_x64",
        "from jax import experimental",
        "import jax\njax.experimental.enable_x64()",
        "from jax._src import config",
        "import jax\njax.config.update('jax_enable_x64', True)",
        "from jax import config\nconfig.update('jax_enable_x64', True)",
        "from jax import config as settings\nsettings.update('jax_enable_x64', True)",
        "import jax\njax.config.jax_enable_x64 = True",
        "from scanpy._utils import NeighborsView",
        "from scanpy import _utils",
        "from scanpy.get._aggregated import aggregate",
        "import scanpy as sc\nsc._settings",
        "import scanpy as sc\nsc.tl._leiden",
        "import importlib\nimportlib.import_module('jax.experimental')",
    ],
)
def test_interface_rule_finds(source):
    assert forbidden(source)


@pytest.mark.parametrize(
    "source",
    [
        "import jax\nwith jax.enable_x64(True):\n    pass",
        "import jax\nx64 = jax.config.jax_enable_x64",
        "import jax\njax.__version__",
        "import scanpy as sc\nsc.__version__\nsc.tl.leiden",
        "settings = {}\nsettings.update(a=1)",
    ],
)
def test_interface_rule_allows(source):
    assert not forbidden(source)


# Asked in a fresh interpreter in which any start of a JAX backend fails, as no platform has that name.
QUESTIONS = f"""
import importlib.metadata, json, logging, sys
import jax
names = ["jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion", "jax_debug_nans"]
before = [getattr(jax.config, name) for name in names]
import kronax
quick = [name for name in ["anndata", "pandas", "scipy"] if name in sys.modules]
logging.getLogger("kronax").setLevel("ERROR")
parts = [getattr(kronax, name) for name in kronax.__all__]
answers = {{
    "quick": quick,
    "parts": dir(kronax) == kronax.__all__,
    "heavy": [name for name in {HEAVY} if name in sys.modules],
    "settings": before == [getattr(jax.config, name) for name in names],
    "x64": jax.config.jax_enable_x64,
    "silence": logging.getLogger("kronax").level == logging.ERROR,
    "version": kronax.__version__ == importlib.metadata.version("kronax"),
}}
try:
    jax.devices()
except RuntimeError:
    answers["backend"] = None
print(json.dumps(answers))
"""


@pytest.mark.parametrize("x64", [False, True])
def test_import_is_light_and_changes_nothing(x64):
    """Not even the silence that was asked for before the first use."""
    environment = {"JAX_PLATFORMS": "none_such", "JAX_ENABLE_X64": str(int(x64))}
    result = subprocess.run(
        [sys.executable, "-c", QUESTIONS],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    # the last answer makes sure that a start would have been noticed
    kept = {"settings": True, "x64": x64, "silence": True}
    expected = {"quick": [], "parts": True, "heavy": [], **kept, "version": True, "backend": None}
    assert json.loads(result.stdout) == expected


def test_what_the_package_lacks():
    with pytest.raises(AttributeError, match="module 'kronax' has no attribute 'tools'"):
        kx.tools  # noqa: B018


@pytest.mark.parametrize("file", EVERY_FILE)
def test_warnings_are_given_by_the_one_function_that_finds_the_users_line(file):
    assert file.name == "_logging.py" or not paths_used(file.read_text(encoding="utf-8")) & {"warnings.warn"}
