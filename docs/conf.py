"""Configuration of the documentation: ``sphinx-build -W docs docs/_build/html``."""

import os
import re
import shutil
from importlib.metadata import version as version_of
from pathlib import Path

import matplotlib.axes
import pandas
from anndata import AnnData
from mudata import MuData
from pybtex.plugin import register_plugin
from pybtex.style.formatting.unsrt import Style as UnsrtStyle
from pybtex.style.labels import BaseLabelStyle
from pybtex.style.sorting import BaseSortingStyle
from sphinx.ext.napoleon import NumpyDocstring
from sphinx.util import logging

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
templates_path = ["_templates"]
default_role = "literal"

# Interface: pages are made from the docstrings; types stand in the signature alone and are shown with each parameter.
autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_use_ivar = True
napoleon_use_rtype = False


def whole_returns(self, section):
    """Keep a "Returns" section as it is.

    Napoleon expects a type there and cuts the text at its first colon or line end. Types stand in the signature alone,
    so all of the section is text.
    """
    lines = self._strip_empty(self._dedent(self._consume_to_next_section()))
    return [*self._format_block(":returns: ", lines), ""]


def single_attributes(self, section):
    """Split attributes that are described together into an entry each.

    Sphinx would take all names but the last for its type.
    """
    lines = []
    for names, _, text in self._consume_fields():
        first, *others = names.split(", ")
        lines += self._format_block(f":ivar {first}: ", text)
        lines += [f":ivar {name}: See ``{first}``." for name in others]
    return [*lines, ""]


NumpyDocstring._parse_returns_section = whole_returns
NumpyDocstring._parse_attributes_section = single_attributes

# The public names of types in signatures: links to them exist under no other.
for cls, module in {
    AnnData: "anndata",
    MuData: "mudata",
    pandas.DataFrame: "pandas",
    matplotlib.axes.Axes: "matplotlib.axes",
}.items():
    cls.__module__ = module

# Pages and notebooks. Notebooks are stored with their results, so a build runs nothing.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# The tutorials stand beside this folder, and Sphinx reads only what is in it.
HERE = Path(__file__).parent
shutil.rmtree(HERE / "tutorials", ignore_errors=True)
shutil.copytree(HERE.parent / "tutorials", HERE / "tutorials", ignore=shutil.ignore_patterns(".*"))

# References: the list has the labels that the text has
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"


def author_year(entry):
    names = [" ".join(person.last_names) for person in entry.persons.get("author", ())]
    if len(names) > 2:
        names = [f"{names[0]} et al."]
    return f"{' and '.join(names) or entry.fields['key']}, {entry.fields['year']}"


class AuthorYearLabels(BaseLabelStyle):
    def format_labels(self, entries):
        return map(author_year, entries)


class AuthorYearOrder(BaseSortingStyle):
    def sorting_key(self, entry):
        return author_year(entry).lower()


class AuthorYearStyle(UnsrtStyle):
    default_label_style = AuthorYearLabels
    default_sorting_style = AuthorYearOrder


register_plugin("pybtex.style.formatting", "author_year", AuthorYearStyle)

# Links into the documentation of other packages need the network, so only the hosted build makes them.
if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
        "mudata": ("https://mudata.readthedocs.io/stable", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
    }

# Copy what is typed, not the prompts and the output
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "sphinx_book_theme"
html_title = "kronax"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_theme_options = {
    "navbar_persistent": [],  # one search box, not two
    "path_to_docs": "docs",
    "repository_branch": "main",
    "repository_url": "https://github.com/kronax/kronax",
    "use_issues_button": True,
    "use_repository_button": True,
}


def warn_of_raw_markup(app, pagename, templatename, context, doctree):
    """Warn of a page of the interface that shows markup, as in ``name`` or :class:`name`, instead of what it stands for."""
    if pagename.startswith("api/"):
        text = re.sub(r"<[^>]*>", "", context.get("body", ""))
        for found in sorted(set(re.findall(r"``|:\w+:`", text))):
            logging.getLogger(__name__).warning("shows a raw %s", found, location=pagename)


def setup(app):
    app.connect("html-page-context", warn_of_raw_markup)
