"""How figures are made and handed over."""

import sys

from matplotlib import pyplot as plt

from kronax.pl._figure import new_figure, save_and_show


def test_a_notebook_learns_to_show_figures(monkeypatch):
    """Without pyplot's backend, IPython writes `<Figure size …>` instead of drawing."""
    loaded = []
    monkeypatch.setattr(plt, "draw_if_interactive", lambda: loaded.append(True))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    new_figure(show=False)
    assert not loaded
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    before = plt.get_fignums()
    new_figure(show=False)
    assert loaded
    assert plt.get_fignums() == before  # an open one would be shown twice


def test_options_are_those_of_the_figure():
    assert tuple(new_figure(show=False, figsize=(3, 2)).get_size_inches()) == (3, 2)


def test_the_folder_of_a_file_is_made(tmp_path):
    figure = new_figure(show=False)
    assert save_and_show(figure, save=tmp_path / "a" / "b" / "x.png", show=False, return_fig=True) is figure
    assert save_and_show(figure, save=str(tmp_path / "a" / "b" / "x.pdf"), show=False, return_fig=False) is None
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"x.png", "x.pdf"}
