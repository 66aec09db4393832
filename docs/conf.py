"""Configuration of the documentation: ``sphinx-build -W docs docs/_build/html``."""

import os
import shutil
from importlib.metadata import version as version_of
from pathlib import Path

project = "kronax"
author = "kronax developers"
copyright = f"2026, {author}"
version = release = version_of("kronax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
]

exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
default_role = "literal"

# Interface: pages are made from the docstrings; types stand in the signature alone and are shown with each parameter.
autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_rtype = False

# Pages and notebooks. Notebooks are stored with their results, so a build runs nothing.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# The tutorials stand beside this folder, and Sphinx reads only what is in it.
HERE = Path(__file__).parent
shutil.rmtree(HERE / "tutorials", ignore_errors=True)
shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", ignore=shutil.ignore_patterns(".*"))

# References
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

# Links into the documentation of other packages need the network, so only the hosted build makes them.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "mudata": ("https://mudata.readthedocs.io/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
    }

# Copy what is typed, not the prompts and the output
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "kronax"
html_theme_options = {
    "path_to_docs": "docs",
    "repository_branch": "main",
    "repository_url": "https://github.com/kronax/kronax",
    "use_issues_button": True,
    "use_repository_button": True,
}
