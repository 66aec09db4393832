"""kx.pl.effects: what it shows, and that its names can be read."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

import kronax as kx


@pytest.fixture
def found() -> ad.AnnData:
    rng = np.random.default_rng(0)
    n = 30
    obs = pd.DataFrame(
        {"effect_size": rng.gamma(2, 1, n), "acd": rng.uniform(0, 1, n), "p_value": rng.uniform(0, 1, n) ** 2},
        index=[f"drug{i}|line" for i in range(n)],
    )
    obs.loc[obs.index[:3], ["acd", "p_value"]] = np.nan
    return ad.AnnData(rng.normal(size=(n, 4)), obs=obs)


def points(figure) -> list[np.ndarray]:
    return [np.asarray(part.get_offsets()) for part in figure.axes[0].collections]


@pytest.mark.parametrize("y", ["agreement", "p_value"])
def test_points(found, y):
    figure = kx.pl.effects(found, y=y, p_max=0.2)
    obs = found.obs.iloc[3:]
    height = 1 - obs["acd"] if y == "agreement" else -np.log10(obs["p_value"])
    for part, mask in zip(points(figure), (obs["p_value"] > 0.2, obs["p_value"] <= 0.2), strict=True):
        np.testing.assert_allclose(part, np.column_stack([obs["effect_size"], height])[mask.to_numpy()])
    title = figure.axes[0].get_title()
    assert f"{(obs['p_value'] <= 0.2).sum()} of 27 effects with p ≤ 0.2" in title
    assert "3 without replicates" in title


def test_the_surest_are_named(found):
    figure = kx.pl.effects(found, n_labels=4)
    names = {text.get_text() for text in figure.axes[0].texts}
    assert names == set(found.obs["p_value"].nsmallest(4).index)


def test_names_do_not_overlap_and_are_as_many_as_fit(found):
    found.obs["p_value"], found.obs["acd"] = 0.01, 0.5
    figure = kx.pl.effects(found, n_labels=1000)
    figure.canvas.draw()
    texts = figure.axes[0].texts
    extents = [Text.get_window_extent(text) for text in texts]  # without the lines
    boxes = sorted((box.y0, box.y1) for box in extents)
    assert 5 < len(texts) < 30
    assert all(lower[1] <= upper[0] + 1 for lower, upper in zip(boxes[:-1], boxes[1:], strict=True))


def test_refused(found):
    with pytest.raises(KeyError, match="kx.pp.effects"):
        kx.pl.effects(ad.AnnData(np.ones((2, 2))))
    with pytest.raises(ValueError, match="replicate_key"):
        kx.pl.effects(found[:3].copy())
    with pytest.raises(ValueError, match="p_max"):
        kx.pl.effects(found, p_max=2)
