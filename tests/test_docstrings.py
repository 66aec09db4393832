"""What the docstrings of the interface promise: all sections are there, every name is documented, every example runs."""

import ast
import doctest
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import kronax as kx

ROOT = Path(__file__).parents[1]
MODULES = ("datasets", "get", "metrics", "pl", "pp", "tl")
PUBLIC = {
    f"{module}.{name}": getattr(getattr(kx, module), name) for module in MODULES for name in getattr(kx, module).__all__
}
FUNCTIONS = [pytest.param(member, id=name) for name, member in PUBLIC.items() if inspect.isfunction(member)]
CLASSES = [pytest.param(member, id=name) for name, member in PUBLIC.items() if inspect.isclass(member)]
SECTIONS = ["Parameters", "Returns", "Raises", "References", "Examples"]
SECTIONS_OF_CLASSES = ["Attributes", "References", "Examples"]


def sections(member) -> dict[str, str]:
    """The titles of a docstring's sections, in their order, and what stands in each."""
    parts = re.split(r"^(\S[^\n]*)\n-{3,}$", inspect.getdoc(member) or "", flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(section: str) -> list[str]:
    """The names that a section of parameters or attributes describes."""
    lines = re.findall(r"^(\w[\w, ]*)$", section, flags=re.MULTILINE)
    return [name.strip() for line in lines for name in line.split(",")]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_sections(function):
    found = sections(function)
    assert [title for title in found if title in SECTIONS] == SECTIONS
    assert all(found[title].strip() for title in SECTIONS)
    assert ">>> " in found["Examples"]
    assert ":cite:" in found["References"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_parameter_is_documented(function):
    assert documented(sections(function)["Parameters"]) == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_types_stand_in_the_signature(function):
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not parameter.empty
        assert parameter.kind is not parameter.VAR_KEYWORD


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_raised_is_documented(function):
    """The exceptions that a function raises in its own lines; those of what it calls are for the author to know."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    raised = {
        node.exc.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name)
    }
    assert {name for name in raised if name.endswith("Error")} <= set(documented(sections(function)["Raises"]))


@pytest.mark.parametrize("cls", CLASSES)
def test_sections_of_classes(cls):
    found = sections(cls)
    expected = SECTIONS_OF_CLASSES if inspect.get_annotations(cls) else SECTIONS_OF_CLASSES[1:]
    assert [title for title in found if title in SECTIONS_OF_CLASSES] == expected
    assert all(found[title].strip() for title in expected)
    assert ">>> " in found["Examples"]
    assert ":cite:" in found["References"]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_attribute_is_documented(cls):
    """By itself: an entry for several at once says of none what it is."""
    own = list(inspect.get_annotations(cls))  # those of a parent are in its docstring
    section = sections(cls).get("Attributes", "")
    assert re.findall(r"^(\S.*)$", section, flags=re.MULTILINE) == own


@pytest.mark.parametrize("member", [*FUNCTIONS, *CLASSES])
def test_makes_sense_without_the_source(member):
    """No equations of module docstrings, and no private modules: readers of the site see neither."""
    text = re.sub(r":cite:t:`\w+`, Eq\. \d", "", inspect.getdoc(member))
    assert not re.search(r"\bEqs?\. ?\(?\d", text)
    assert "kronax.solvers" not in text


def test_everything_public_is_in_the_interface_pages():
    listed = re.findall(
        r"^   kronax\.(\S+)$", (ROOT / "docs/api/index.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert sorted(listed) == sorted(PUBLIC)


def test_everything_cited_is_in_the_bibliography():
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs/references.bib").read_text(encoding="utf-8"), re.MULTILINE))
    texts = [inspect.getdoc(member) or "" for member in PUBLIC.values()]
    cited = {key for text in texts for keys in re.findall(r":cite:[tp]:`([^`]+)`", text) for key in keys.split(",")}
    assert cited
    assert cited <= known


@pytest.mark.examples
@pytest.mark.parametrize("member", [*FUNCTIONS, *CLASSES])
def test_examples_run(member, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(verbose=False)
    for test in doctest.DocTestFinder(recurse=False).find(member, globs={}):
        assert runner.run(test).failed == 0, "see the output above"
