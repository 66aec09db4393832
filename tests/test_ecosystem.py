"""The entry for the registry of scverse's ecosystem packages says what the package's own metadata say."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
REQUIRED = {
    "category",
    "contact",
    "description",
    "documentation_home",
    "install",
    "language",
    "license",
    "name",
    "primary_category",
    "project_home",
    "tags",
}
OPTIONAL = {"logo", "publications", "test_command", "tutorials_home"}

# The registry's terms, as far as they may ever describe kronax; it refuses all others
CATEGORIES = {"Multimodal", "scRNA-seq"}
TAGS = {
    "GPU acceleration",
    "benchmarking",
    "clustering",
    "denoising",
    "dimensionality reduction",
    "gene regulatory networks",
    "multimodal",
    "perturbation",
    "probabilistic modeling",
    "scRNA-seq",
    "visualization",
}


@pytest.fixture(scope="module")
def entry() -> dict:
    return yaml.safe_load((ROOT / "docs/ecosystem/meta.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_fields(entry):
    assert REQUIRED <= set(entry) <= REQUIRED | OPTIONAL
    assert entry["category"] == "ecosystem"
    assert entry["language"] == "Python"


def test_terms_are_the_registrys(entry):
    assert entry["primary_category"] in CATEGORIES
    assert set(entry["tags"]) <= TAGS
    assert len(set(entry["tags"])) == len(entry["tags"])


def test_agrees_with_the_project(entry, project):
    assert entry["name"] == entry["install"]["pypi"] == project["name"]
    assert entry["license"] == project["license"]
    assert entry["description"].startswith(f"{project['description']}. ")
    assert entry["project_home"] == project["urls"]["Repository"]
    assert entry["documentation_home"] == project["urls"]["Documentation"]
    assert entry["contact"]
    assert all(re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)*", account) for account in entry["contact"])


def test_tutorials_are_a_page_of_the_documentation(entry):
    page = entry["tutorials_home"].removeprefix(f"{entry['documentation_home']}/page/")
    assert (ROOT / "docs" / page).with_suffix(".md").is_file()


def test_command_is_that_of_the_readme(entry):
    assert f"`{entry['test_command']}`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_can_be_read_anywhere():
    """Its links lead to files that are there, and on a package index, which has none of them, to the repository."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    files = [target for target in links(text) if not target.startswith("https://")]
    assert len(files) > 5
    assert [file for file in files if not (ROOT / file).exists()] == []
    for change in settings["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    repository = settings["project"]["urls"]["Repository"]
    kinds = {file: "raw" if file.endswith(".png") else "blob" for file in files}
    assert [target for target in links(text) if not target.startswith("https://")] == []
    assert [file for file in files if f"]({repository}/{kinds[file]}/main/{file})" not in text] == []


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]*)\)", text)


def test_citation_agrees(project):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == project["license"]
    assert citation["version"] == project["version"]
    assert citation["url"] == project["urls"]["Documentation"]
    assert citation["repository-code"] == project["urls"]["Repository"]
