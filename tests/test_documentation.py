"""The documentation and CI keep what the package's metadata promise, and their code and tables fit a page."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from kronax._cli.parser import MIN_CELLS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "docs/api/index.md"]
WIDEST = 78  # characters that a code block shows without a scroll bar
SYSTEMS = {"MacOS": "macos-latest", "POSIX :: Linux": "ubuntu-latest"}


@pytest.fixture(scope="module")
def classifiers() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]


@pytest.fixture(scope="module")
def jobs() -> list[dict[str, str]]:
    """The jobs that the matrix of the tests stands for."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yaml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    return [{"os": os, "python": python} for os in matrix["os"] for python in matrix["python"]] + matrix["include"]


def test_every_python_among_the_classifiers_is_tested(classifiers, jobs):
    promised = {found[1] for line in classifiers if (found := re.fullmatch(r"Programming .* :: (3\.\d+)", line))}
    assert promised
    assert promised <= {job["python"] for job in jobs}


def test_every_system_among_the_classifiers_is_tested(classifiers, jobs):
    promised = {
        line.removeprefix("Operating System :: ") for line in classifiers if line.startswith("Operating System")
    }
    assert promised
    assert {SYSTEMS[system] for system in promised} <= {job["os"] for job in jobs}


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_code_fits_the_page(page):
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:python|bash|text)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    assert [line for block in blocks for line in block.splitlines() if len(line) > WIDEST] == []


RECIPES = ["README.md", "docs/judging.md", "docs/large_data.md", "tutorials/cells_and_genes.ipynb"]


@pytest.mark.parametrize("page", RECIPES)
def test_rare_genes_are_left_out_alike(page):
    """By recipes as by the command line."""
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"sc\.pp\.filter_genes\(adata, min_cells=(\d+)", text)) == {str(MIN_CELLS)}
