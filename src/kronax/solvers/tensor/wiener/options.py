"""The options of ``kronecker``."""

from dataclasses import dataclass
from typing import Literal

MOST_FIBERS = 8000  # for the posterior variance: beyond, its eigenproblem takes gigabytes and hours


@dataclass(frozen=True)
class KroneckerOptions:
    """Options of ``"kronecker"``: a Wiener smoother with a kernel each of treatments, contexts and genes.

    Attributes
    ----------
    noise
        Noise variance λ relative to kernels whose mean eigenvalue is 1; or ``"cv"``: chosen by cross-validation.
    own_share
        Weight of the identity in the treatment kernel, in [0, 1): what a treatment shares with no other; or ``"cv"``.
    common_share
        Weight of the all-ones matrix in the treatment kernel, in [0, 1): what all treatments share; or ``"cv"``. The
        rest, ``1 - own_share - common_share``, must be positive and is the weight of the learnt similarities.
    gene_power
        Exponent applied to the eigenvalues of the genes' Gram matrix to obtain the gene kernel; 0 treats all directions
        alike.
    max_iter
        Maximum number of sweeps over the tensor.
    tol
        Convergence tolerance: the solver stops when a sweep changes the missing entries by less than this share of the
        norm of the measured ones.
    variance
        Whether to compute the posterior variance. This takes the eigenvectors of a square matrix of all profiles
        without gaps, of which there must be at least 1 and at most 8000.
    single_precision
        Whether to compute products in float32, which halves memory and time.
    n_folds
        Number of folds of the inner cross-validation over whole profiles, which ``"cv"`` asks for. It starts from the
        middle candidates and changes one of the three parameters by one step at a time, as long as the squared error of
        the held-out profiles falls. For large tensors it uses a random subset of the treatments.
    noises
        Candidates for `noise`, ascending.
    own_shares
        Candidates for `own_share`, ascending.
    common_shares
        Candidates for `common_share`, ascending.
    random_state
        Seed of the folds and of the subset of treatments.

    References
    ----------
    Described in :doc:`/tensors`; it belongs to the family of :cite:t:`Allen2010`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> options = kx.tl.KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.0)
    >>> kx.tl.complete_tensor(mdata, options=options)
    >>> mdata.uns["completion"]["chosen"]["noise"]
    1.0
    """

    noise: float | Literal["cv"] = "cv"
    own_share: float | Literal["cv"] = "cv"
    common_share: float | Literal["cv"] = "cv"
    gene_power: float = 0.5
    max_iter: int = 100
    tol: float = 1e-3
    variance: bool = False
    single_precision: bool = False
    n_folds: int = 5
    noises: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    own_shares: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65)
    common_shares: tuple[float, ...] = (0.0, 0.15, 0.3)
    random_state: int = 0
