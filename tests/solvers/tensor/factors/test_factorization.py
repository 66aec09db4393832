import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorly.decomposition import parafac

from kronax.datasets import skewed_response
from kronax.solvers.tensor.completion import Fallback
from kronax.solvers.tensor.factors import model, train
from kronax.solvers.tensor.factors.factorization import attention_cp, cp, mf, needs, with_attention, worth_it
from kronax.solvers.tensor.factors.options import AttentionOptions, FactorizationOptions
from kronax.solvers.tensor.folds import hide
from kronax.solvers.tensor.means import mean_2d

QUICK = AttentionOptions(rank=3, scale_per_context=False, max_epochs=5, batch_size=8, refit=False, or_cp=False)
METHODS = [mf, cp, attention_cp]
NAMES = [method.__name__ for method in METHODS]


def low_rank(rng, shape, rank=3):
    return np.einsum("dr,cr,gr->dcg", *(rng.normal(size=(n, rank)) for n in shape))


def without_fibers(rng, tensor, n_left):
    """Leave so many contexts of every treatment."""
    return hide(tensor, rng.random(tensor.shape[:2]).argsort(axis=1) >= n_left)


@pytest.fixture
def gaps(rng):
    return without_fibers(rng, low_rank(rng, (20, 5, 8)) + 0.1 * rng.normal(size=(20, 5, 8)), 3)


def form(flat=False, attention=None, *, biases=True, weighted=False, non_negative=()):
    return model.Form(flat, attention, biases, weighted, non_negative)


def parameters(rng, kind, shape=(6, 4, 5), rank=3):
    """Draw all parameters, none of them 0."""
    empty = train.Task(np.empty(shape), None, None, kind, None, FactorizationOptions(rank=rank), False)
    return {n: jnp.asarray(rng.normal(size=p.shape)) for n, p in train.start_of(empty, rng).items()}


def task(rng, shape=(6, 4, 5)):
    """Draw fibers, one with a single missing entry and one that only fills up, and settings."""
    values = rng.normal(size=(7, shape[2]))
    values[1, 2] = np.nan
    treatment, context = (jnp.asarray(rng.integers(n, size=7), jnp.int32) for n in shape[:2])
    fibers = model.Fibers(jnp.asarray(values), treatment, context)
    cutoffs = np.tile([-1.5, -0.5, 0.5, 1.5], (shape[1], 1))
    numbers = 1e-2, 1e-4, 1e-3, 0.1, cutoffs, np.array([3.0, 2.0, 0.5, 2.0, 3.0])
    return fibers, jnp.arange(7) < 6, model.Settings(*(jnp.asarray(n, jnp.float64) for n in numbers))


FORMS = [form(True), form(), form(biases=False), form(attention="additive"), form(attention="product", weighted=True)]


@pytest.mark.parametrize("kind", FORMS)
def test_predictions_by_hand(rng, x64, kind):
    p = parameters(rng, kind)
    treatment, context = np.array([0, 3, 5]), np.array([3, 0, 0])
    found = model.predict(p, kind, jnp.asarray(treatment), jnp.asarray(context))
    p = {name: np.asarray(value) for name, value in p.items()}
    for row, (t, c) in enumerate(zip(treatment, context, strict=True)):
        for g in range(5):
            if kind.flat:
                products = p["treatment"][t] * p["gene"][c, :, g]
            else:
                products = p["treatment"][t] * p["context"][c] * p["gene"][g]
            logits = np.zeros(3)
            if kind.attention == "product":
                logits = products
            elif kind.attention == "additive":
                logits = sum(p[m][n] @ p[f"w_{m}"] for m, n in (("treatment", t), ("context", c), ("gene", g)))
            expected = (products * 3 * np.exp(logits) / np.exp(logits).sum()).sum()
            if kind.biases:
                expected += p["gene_bias"][(c, g) if kind.flat else g] + p["treatment_bias"][t] + p["bias"]
            assert float(found[row, g]) == pytest.approx(expected, rel=1e-10)


def test_loss_by_hand(rng, x64):
    kind = form(weighted=True)
    p = parameters(rng, kind)
    fibers, real, settings = task(rng)
    value, (total, count) = model.loss(p, kind, fibers, real, settings)
    y = np.asarray(fibers.values)[:6]
    predicted = np.asarray(model.predict(p, kind, fibers.treatment, fibers.context))[:6]
    weight = np.select([np.abs(y) > 1.5, np.abs(y) > 0.5], [3.0, 2.0], 0.5)
    known = ~np.isnan(y)
    assert int(count) == known.sum() == 29
    assert float(total) == pytest.approx((weight * (y - predicted) ** 2)[known].sum())
    assert float(value) == pytest.approx((weight * (y - predicted) ** 2)[known].mean() - 0.1 * predicted[known].var())


@pytest.mark.parametrize("kind", [replaced._replace(weighted=True) for replaced in FORMS])
def test_gradients_against_finite_differences(rng, x64, kind):
    p = parameters(rng, kind)
    arguments = kind, *task(rng)
    value = jax.jit(lambda p: model.loss(p, *arguments)[0])
    gradient = jax.jit(jax.grad(value))(p)
    direction = {n: jnp.asarray(rng.normal(size=v.shape)) for n, v in p.items()}
    step = 1e-6
    ahead, behind = (value({n: v + sign * step * direction[n] for n, v in p.items()}) for sign in (1, -1))
    slope = sum(float(jnp.vdot(gradient[n], direction[n])) for n in p)
    assert slope == pytest.approx(float(ahead - behind) / (2 * step), rel=1e-6)
    for name, value in p.items():  # and every parameter takes part
        assert float(jnp.abs(gradient[name]).max()) > 0, name
        assert gradient[name].shape == value.shape


def test_equal_attention_is_cp(rng, x64):
    kind = form(attention="additive")
    p = parameters(rng, kind)
    p |= {n: jnp.zeros_like(v) for n, v in p.items() if n.startswith("w_")}
    where = jnp.arange(4), jnp.array([0, 1, 2, 3])
    expected = model.predict(p, form(), *where)
    np.testing.assert_allclose(model.predict(p, kind, *where), expected, rtol=1e-13, atol=1e-14)
    p = {n: v.at[:, 1:].set(v[:, :1]) if v.shape[-1:] == (3,) and v.ndim == 2 else v for n, v in p.items()}
    product = model.predict(p, form(attention="product"), *where)  # all components alike: equal weights too
    np.testing.assert_allclose(product, model.predict(p, form(), *where), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("size", [30, 1000])
def test_far_apart_logits_stay_finite(rng, size):
    """Also where the component that the fiber favours is the one that the gene shuns."""
    kind = form(attention="additive")
    p = {n: v.astype(jnp.float32) for n, v in parameters(rng, kind).items()}
    p |= {n: size * v for n, v in p.items() if n.startswith("w_")}
    differentiated = jax.jit(jax.value_and_grad(lambda p: model.predict(p, kind, *[jnp.arange(4)] * 2).sum()))
    found, gradient = differentiated(p)
    assert np.isfinite(found)
    assert all(np.isfinite(g).all() for g in gradient.values())


def test_attention_none_is_cp(gaps):
    options = replace(QUICK, attention=None)
    np.testing.assert_array_equal(attention_cp(gaps, options).values, cp(gaps, options).values)


@pytest.mark.parametrize(("attention", "wins"), [("additive", True), ("product", False)])
def test_held_out_fibers_decide_on_attention(rng, attention, wins):
    mdata = skewed_response(
        n_treatments=40, n_contexts=5, n_genes=15, rank=3, attention=2.0 * wins, measured=np.ones((40, 5), bool)
    )
    x = without_fibers(rng, np.stack([adata.layers["truth"] for adata in mdata.mod.values()], axis=1), 4)
    options = replace(QUICK, attention=attention, max_epochs=150, patience=150)
    found, alone, plain = attention_cp(x, replace(options, or_cp=True)), attention_cp(x, options), cp(x, options)
    assert (alone.factors.held_out_loss.min() < 0.7 * plain.factors.held_out_loss.min()) == wins
    assert found.parameters["attention"] == wins
    np.testing.assert_array_equal(found.values, (alone if wins else plain).values)
    np.testing.assert_array_equal(found.factors.held_out_loss, (alone if wins else plain).factors.held_out_loss)


@pytest.mark.parametrize("method", [cp, attention_cp])
def test_noiseless_tensor_is_recovered(rng, method):
    """From the best of a few starts: a single one can end in a local minimum. Attention has to stay near that of CP."""
    truth = low_rank(rng, (60, 8, 30))
    n_left = np.where(np.arange(60) % 5 < 3, 4, 2)[:, None]
    x = hide(truth, rng.random((60, 8)).argsort(axis=1) >= n_left)
    missing = np.isnan(x)
    assert missing.mean() == pytest.approx(0.6)
    options = AttentionOptions(
        rank=3,
        weight_decay=0.0,
        attention_decay=1.0,
        learning_rate=5e-3,
        max_epochs=700,
        held_out=0.0,
        start="random",
        scale_per_context=False,
        n_starts=3,
    )
    result = method(x, options)
    error = np.linalg.norm((result.values - truth)[missing]) / np.linalg.norm(truth[missing])
    assert error < 1e-2


def test_best_of_several_starts(gaps):
    options = replace(QUICK, n_starts=3)
    found = attention_cp(gaps, options)
    least = found.factors.held_out_loss.min()
    assert least <= attention_cp(gaps, QUICK).factors.held_out_loss.min()
    np.testing.assert_array_equal(found.values, attention_cp(gaps, options).values)


def test_cp_agrees_with_tensorly(rng):
    """On the fit of entries missing at random, for which the library has an independent algorithm."""
    truth = low_rank(rng, (20, 8, 15), rank=2)
    noisy = truth + 0.2 * rng.normal(size=truth.shape)
    missing = rng.random(truth.shape) < 0.1
    weights, factors = parafac(
        np.where(missing, 0.0, noisy), 2, mask=~missing, n_iter_max=500, init="svd", random_state=0, tol=1e-10
    )
    theirs = np.einsum("r,dr,cr,gr->dcg", weights, *factors)
    options = FactorizationOptions(
        rank=2, weight_decay=0.0, biases=False, scale=None, held_out=0.0, max_epochs=400, learning_rate=5e-3
    )
    ours = cp(np.where(missing, np.nan, noisy), options).values
    fits = [1 - np.linalg.norm((x - noisy)[missing]) / np.linalg.norm(noisy[missing]) for x in (ours, theirs)]
    assert fits[0] > 0.7
    assert fits[0] == pytest.approx(fits[1], abs=0.01)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_same_seed_same_result(gaps, method):
    first, second, other = (method(gaps, replace(QUICK, random_state=seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.status.objective, second.status.objective)
    assert not np.array_equal(first.values, other.values)


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_measured_entries_stay(gaps, method, dtype):
    gaps = gaps.astype(dtype)
    gaps[0, ~np.isnan(gaps[0, :, 0]), 1] = np.nan
    before = gaps.copy()
    result = method(gaps, replace(QUICK, outlier_z=2.0, scale="minmax", scale_per_context=True))
    np.testing.assert_array_equal(gaps, before)
    assert result.values.dtype == dtype
    assert np.isfinite(result.values).all()
    np.testing.assert_array_equal(result.values[~np.isnan(gaps)], gaps[~np.isnan(gaps)])
    assert result.factors.scaling.n_clipped.sum() > 0
    assert not result.fallback.any()


@pytest.mark.parametrize("x64", [False, True])
def test_no_compilation_for_the_same_shapes(gaps, caplog, x64):
    with jax.enable_x64(x64):
        attention_cp(gaps, QUICK)
        other = replace(QUICK, learning_rate=3e-3, weight_decay=1e-2, variance_weight=0.1, random_state=0)
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            attention_cp(gaps + 1.0, other)
        assert not [r for r in caplog.records if "Compiling" in r.getMessage()]
        assert jax.config.jax_enable_x64 == x64


def test_scale_of_the_data_changes_nothing(gaps):
    result, larger = (cp(x, QUICK).values for x in (gaps, 8.0 * gaps + 3.0))
    np.testing.assert_allclose(larger, 8.0 * result + 3.0, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", [cp, attention_cp])
def test_non_negative_modes(gaps, method):
    result = method(np.abs(gaps), replace(QUICK, non_negative=("context", "gene"), scale=None, max_epochs=40))
    assert result.factors.contexts.min() >= 0
    assert result.factors.genes.min() >= 0
    assert result.factors.treatments.min() < 0
    assert result.status.objective[-1] < result.status.objective[0]


def test_factors_give_the_predictions(gaps):
    result = cp(gaps, replace(QUICK, biases=False))
    products = np.einsum("dk,ck,gk->dcg", result.factors.treatments, result.factors.contexts, result.factors.genes)
    missing = np.isnan(gaps)
    np.testing.assert_allclose(
        result.values[missing], result.factors.scaling.undo(products)[missing], rtol=1e-4, atol=1e-5
    )
    result = mf(gaps, replace(QUICK, biases=False))
    assert result.factors.contexts is None
    products = np.einsum("dk,cgk->dcg", result.factors.treatments, result.factors.genes)
    np.testing.assert_allclose(
        result.values[missing], result.factors.scaling.undo(products)[missing], rtol=1e-4, atol=1e-5
    )


def test_decay_makes_factors_small_and_leaves_biases(gaps):
    gene = np.arange(8.0)
    result = cp(gaps + 10.0 * gene, replace(QUICK, weight_decay=1.0, max_epochs=300, learning_rate=3e-2, held_out=0.0))
    assert (
        max(np.abs(f).max() for f in (result.factors.treatments, result.factors.contexts, result.factors.genes)) < 0.05
    )
    missing = np.isnan(gaps)
    slope = np.polyfit(np.broadcast_to(gene, gaps.shape)[missing], result.values[missing], 1)[0]
    assert slope == pytest.approx(10.0, rel=0.05)


def test_early_stopping_keeps_the_best_epoch(rng):
    noise = without_fibers(rng, rng.normal(size=(30, 5, 8)), 3)  # nothing to be learnt
    result = attention_cp(noise, replace(QUICK, rank=8, max_epochs=200, patience=3))
    assert result.status.converged
    best = int(result.parameters["n_best"])
    assert len(result.factors.held_out_loss) == len(result.status.objective) == best + 3
    assert result.factors.held_out_loss.argmin() == best - 1
    assert f"lowest after epoch {best} and did not improve in the 3 epochs after it" in result.status.reason
    cut = attention_cp(noise, replace(QUICK, rank=8, max_epochs=best, patience=3))
    np.testing.assert_array_equal(cut.values, result.values)
    assert not cut.status.converged


def test_refit_goes_on_with_all_fibers(gaps):
    """From where the held-out fibers were predicted best, not from the start, where other minima are near."""
    quick = replace(QUICK, biases=False)
    first, refitted = (cp(gaps, replace(quick, refit=refit)) for refit in (False, True))
    np.testing.assert_array_equal(first.factors.held_out_loss, refitted.factors.held_out_loss)
    anew = cp(gaps, replace(quick, held_out=0.0, max_epochs=int(first.parameters["n_best"])))
    errors = []
    for found in (first, anew, refitted):
        products = np.einsum("dk,ck,gk->dcg", found.factors.treatments, found.factors.contexts, found.factors.genes)
        errors.append(np.nanmean((found.factors.scaling.undo(products) - gaps) ** 2))
    assert errors[2] < min(errors[:2])


@pytest.mark.parametrize(
    ("gain", "worth"),
    [
        ([1.0, 1.0, 1.0, 1.1], True),
        ([-1.0, -1.0, -1.0, -1.1], False),
        ([0.1, -0.1, 0.1, -0.1], False),
        ([10.0, -0.1, -0.1, -0.1], False),  # one fiber alone decides nothing
        ([10.0, 9.0, 0.1, -0.1], True),
        ([1.0], False),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_the_larger_model_has_to_gain_a_standard_error(gain, worth):
    assert worth_it(np.array(gain)) == worth


def test_factors_come_to_rest(gaps):
    """In a place that a training with more epochs ahead of it still circles around; the epochs before are the same."""
    options = replace(QUICK, max_epochs=150, held_out=0.0, learning_rate=5e-2)
    found = cp(gaps, options).status.objective
    restless = cp(gaps, replace(options, max_epochs=225)).status.objective[:150]
    np.testing.assert_array_equal(found[:101], restless[:101])
    assert found[-1] < restless[-50:].min()
    assert np.abs(np.diff(found[-5:])).max() < 0.1 * np.abs(np.diff(restless[-5:])).max()


def test_held_out_fibers_leave_something_of_everyone(rng):
    some = rng.random((40, 6)) < 0.3
    some[:, 5] = False
    some[[0, 1], 5] = True
    held_out = train.held_out_fibers(some, FactorizationOptions(held_out=0.2))
    assert not (held_out & ~some).any()
    assert 0 < held_out.sum() <= 0.25 * some.sum()
    left = some & ~held_out
    for axis in (0, 1):
        np.testing.assert_array_equal(left.any(axis=axis), some.any(axis=axis))


def test_weights_pull_towards_the_extremes(rng):
    values = without_fibers(rng, rng.standard_t(2, size=(20, 1, 1)) * low_rank(rng, (20, 5, 8)), 3)
    options = replace(QUICK, max_epochs=60, cutoffs=(-2.0, -1.0, 1.0, 2.0))
    spread = [np.std(cp(values, replace(options, weight_power=p)).values[np.isnan(values)]) for p in (0.0, 1.0)]
    assert spread[1] > spread[0]


def test_variance_term_spreads_predictions(gaps):
    options = replace(QUICK, max_epochs=60)
    spread = [np.std(cp(gaps, replace(options, variance_weight=v)).values[np.isnan(gaps)]) for v in (0.0, 0.5)]
    assert spread[1] > spread[0]


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_never_measured_is_predicted_from_biases(gaps, method):
    gaps[3], gaps[:, 2] = np.nan, np.nan
    result = method(gaps, QUICK)
    assert (result.fallback[3] == Fallback.BIASES).all()
    assert (result.fallback[:, 2] == Fallback.BIASES).all()
    assert not np.delete(np.delete(result.fallback, 3, axis=0), 2, axis=1).any()
    assert np.isfinite(result.values).all()
    assert (result.factors.treatments[3] == 0).all()
    if method is not mf:  # b_u + b, the same in every context
        np.testing.assert_allclose(result.values[3] - result.values[3, :1], 0.0, atol=1e-5)
    with pytest.raises(ValueError, match="Treatments never measured: 1 of 20, at positions 3"):
        method(gaps, replace(QUICK, refuse_unmeasured=True))
    gaps[3] = 1.0
    with pytest.raises(ValueError, match="Contexts never measured: 1 of 5, at positions 2"):
        method(hide(gaps, np.tile(np.arange(5) == 2, (20, 1))), replace(QUICK, refuse_unmeasured=True))


def test_without_biases_means_stand_in(gaps):
    gaps[3], gaps[:, :, 4] = np.nan, np.nan
    result, means = cp(gaps, replace(QUICK, biases=False)), mean_2d(gaps)
    np.testing.assert_array_equal(result.values[3], means.values[3])
    np.testing.assert_array_equal(result.values[:, :, 4], means.values[:, :, 4])
    assert (result.fallback[3] == Fallback.CONTEXT_MEAN).all()
    assert not np.delete(result.fallback, 3, axis=0).any()  # of one gene in all, which has the overall mean
    assert not cp(gaps, QUICK).fallback[:3].any()


def test_divergence_is_told(gaps):
    with pytest.raises(FloatingPointError, match=r"epoch \d+ of cp with rank=3, learning_rate=1e\+20"):
        cp(gaps, replace(QUICK, learning_rate=1e20))


def test_bad_categories_are_told(gaps):
    with pytest.raises(ValueError, match="No measured entry falls into expression category -2, 2"):
        cp(gaps, replace(QUICK, weight_power=0.25, cutoffs=(-1e3, -1.0, 1.0, 1e3)))


def test_memory_grows_with_the_rank():
    measured = np.broadcast_to(np.arange(4800).reshape(600, 8, 1) < 864, (600, 8, 15000))
    sizes = [needs(with_attention)(measured, AttentionOptions(rank=k)).n_bytes for k in (64, 64000)]
    assert sizes[0] < 8 * 2**30 < sizes[1]


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
@pytest.mark.parametrize("biases", [True, False])
def test_a_mean_stands_in_where_nothing_is_linked(gaps, method, biases):
    """Factors of two blocks that share nothing were trained apart; their products would mean nothing."""
    gaps[:10, 3:] = gaps[10:, :3] = np.nan
    result = method(gaps, replace(QUICK, biases=biases))
    known = ~np.isnan(gaps).all(axis=(1, 2))[:, None]
    across = known & ((np.arange(20)[:, None] < 10) != (np.arange(5) < 3))
    assert (result.fallback[across] == Fallback.UNLINKED).all()
    assert not (result.fallback[~across] == Fallback.UNLINKED).any()
    np.testing.assert_allclose(result.values[across], mean_2d(gaps).values[across])
