"""The tutorials: executed and small, in step with the package; and, on request, that they still run (`pytest -m tutorials`)."""

import ast
import builtins
import json
import re
from pathlib import Path

import pytest

import kronax as kx

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
EVERY_TUTORIAL = [pytest.param(path, id=path.stem) for path in TUTORIALS]
YOURS = {"adata", "mdata", "rna", "protein"}  # what text cells call the reader's own objects
LARGEST = 1_000_000  # bytes
FILE = re.compile(r"site-packages|(?<![\w.:/])/(?:[\w.-]+/)+[\w.-]+\.\w|[A-Z]:\\")  # with its absolute path


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def text(lines: str | list[str]) -> str:
    return "".join(lines)


def names_used(source: str) -> set[str]:
    """Every dotted name that begins with ``kx.``, as far as it is one of modules and their members."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            inner = node.value
            if isinstance(inner.value, ast.Name) and inner.value.id == "kx":
                found.add(f"{inner.attr}.{node.attr}")
    return found


def names(source: str, context: type) -> set[str]:
    """The names that Python code reads (``ast.Load``) or binds (``ast.Store``), by imports, definitions and assignments."""
    nodes = list(ast.walk(ast.parse(source)))
    found = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    if context is ast.Store:
        found |= {(node.asname or node.name).split(".")[0] for node in nodes if isinstance(node, ast.alias)}
        found |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return found


def snippets(path: Path) -> list[str]:
    """The Python in the text cells."""
    return [
        block
        for cell in cells(path, "markdown")
        for block in re.findall(r"```python\n(.*?)```", text(cell["source"]), re.DOTALL)
    ]


def test_there_are_tutorials():
    assert len(TUTORIALS) >= 5


@pytest.mark.parametrize("path", EVERY_TUTORIAL)
def test_was_executed_from_top_to_bottom(path):
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]


@pytest.mark.parametrize("path", EVERY_TUTORIAL)
def test_figures_are_shown(path):
    for cell in cells(path, "code"):
        if re.search(r"^(kx|sc)\.pl\.", text(cell["source"]), re.MULTILINE):
            assert any("image/png" in out.get("data", {}) for out in cell["outputs"]), text(cell["source"])


@pytest.mark.parametrize("path", EVERY_TUTORIAL)
def test_is_small_and_of_no_machine(path):
    assert path.stat().st_size < LARGEST
    for cell in cells(path, "code"):
        for out in cell["outputs"]:
            shown = text(out.get("text", "")) + text(out.get("data", {}).get("text/plain", ""))
            assert not FILE.search(shown), shown


@pytest.mark.parametrize("path", EVERY_TUTORIAL)
def test_names_exist(path):
    sources = [text(cell["source"]) for cell in cells(path, "code")] + snippets(path)
    used = set().union(*map(names_used, sources))
    assert used
    for name in used:
        module, member = name.split(".")
        assert member in getattr(kx, module).__all__, name


@pytest.mark.parametrize("path", EVERY_TUTORIAL)
def test_snippets_can_run(path):
    """Of the reader's own data: all other names are those of the notebook or the snippet, and nothing is left out."""
    known = set(dir(builtins)) | YOURS
    for source in [text(cell["source"]) for cell in cells(path, "code")]:
        known |= names(source, ast.Store)
    for snippet in snippets(path):
        assert names(snippet, ast.Load) <= known | names(snippet, ast.Store)
        calls = [node for node in ast.walk(ast.parse(snippet)) if isinstance(node, ast.Call)]
        assert not [call for call in calls for arg in call.args if isinstance(arg, ast.Constant) and arg.value is ...]


@pytest.mark.parametrize("path", EVERY_TUTORIAL)
def test_says_how_to_go_on(path):
    headings = re.findall(r"^## (.*)$", "\n".join(text(cell["source"]) for cell in cells(path, "markdown")), re.M)
    assert "On your own data" in headings[-2:]
    assert f"tutorials/{path.stem}\n" in (ROOT / "docs" / "tutorials.md").read_text(encoding="utf-8")


def test_names_rule_finds():
    assert names_used("import kronax as kx\nkx.tl.no_such(adata)\nx = kx.tl.KroneckerOptions(variance=True)") == {
        "tl.no_such",
        "tl.KroneckerOptions",
    }


@pytest.mark.tutorials
@pytest.mark.parametrize("path", EVERY_TUTORIAL)
def test_runs(path, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    # compiled as users have it, not as conftest.py wants it
    for name in ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
