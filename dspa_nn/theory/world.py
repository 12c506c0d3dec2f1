"""A world in which the truth is known: utilities, covariance and gates that open in groups."""

from dataclasses import dataclass

import numpy as np
from einops import einsum, repeat
from jaxtyping import Float64

from dspa_nn.checks import check_positive_int
from dspa_nn.errors import MapError
from dspa_nn.imports import late
from dspa_nn.theory.sample import Sample


@dataclass(frozen=True)
class World:
    """beta(x) = B g(x), E[drho | x] = c Sigma beta(x), gates that open together in groups.

    >>> world = make_world(d_in=6, d_out=8, group=2, seed=0)
    >>> world.draw(50).gates.shape
    (50, 6)

    Attributes:
        B: [d_out, d_in], column i is beta_i. Sigma: [d_out, d_out]. c: above 0.
        together: chance that a gate opens where its group does. alone: chance that it opens by
            itself. groups: chance that a group opens. group: gates in each.
    """

    B: Float64[np.ndarray, "d_out d_in"]
    Sigma: Float64[np.ndarray, "d_out d_out"]
    c: float
    together: float
    alone: float
    groups: float
    group: int

    @property
    def d_in(self) -> int:
        """How many gates there are."""
        return self.B.shape[1]

    def gates(self, n: int, generator: np.random.Generator) -> Float64[np.ndarray, "n d_in"]:
        """Gates of n prompts."""
        opened = generator.random((n, -(-self.d_in // self.group))) < self.groups
        group = repeat(opened, "n groups -> n (groups each)", each=self.group)[:, : self.d_in]
        within = generator.random((n, self.d_in)) < self.together
        by_itself = generator.random((n, self.d_in)) < self.alone
        return ((group & within) | by_itself).astype(np.float64)

    def gram(self) -> Float64[np.ndarray, "d_in d_in"]:
        """M = E[g g^T], exactly."""
        closed = 1 - self.alone
        if_open = 1 - closed * (1 - self.together)
        p = self.groups * if_open + (1 - self.groups) * self.alone
        same = self.groups * if_open**2 + (1 - self.groups) * self.alone**2
        group = np.arange(self.d_in) // self.group
        M = np.where(group[:, None] == group[None, :], same, p * p)
        np.fill_diagonal(M, p)
        return M

    def expected(self, gates: Float64[np.ndarray, "n d_in"]) -> Float64[np.ndarray, "n d_out"]:
        """E[drho | x] = c Sigma B g(x)."""
        return self.c * einsum(self.Sigma, self.B, gates, "out mid, mid d_in, n d_in -> n out")

    def map(self) -> Float64[np.ndarray, "d_in d_out"]:
        """A = (c Sigma B M)^T, exactly."""
        return self.c * einsum(self.Sigma, self.B, self.gram(), "out mid, mid i, i j -> j out")

    def draw(self, n: int, seed: int = 0, noise: float = 1.0) -> Sample:
        """Gates and differences of n triples.

        >>> make_world(d_in=6, d_out=8, seed=0).draw(20, seed=1).drho.shape
        (20, 8)

        The noise of a difference has the covariance 2 Sigma: two responses to one prompt.
        """
        generator = np.random.default_rng(seed)
        gates = self.gates(n, generator)
        root = np.linalg.cholesky(2 * self.Sigma)
        around = generator.standard_normal((n, len(self.Sigma))) @ root.T
        csr_array = late("scipy.sparse").csr_array
        return Sample(
            csr_array(gates),
            csr_array(self.expected(gates) + noise * around),
            np.full(self.d_in, 0.5),
        )


def make_world(
    d_in: int = 24,
    d_out: int = 32,
    *,
    group: int = 4,
    together: float = 0.8,
    alone: float = 0.05,
    groups: float = 0.25,
    size: float = 0.05,
    c: float = 20.0,
    seed: int = 0,
) -> World:
    """A world with random templates and a random covariance.

    >>> world = make_world(d_in=6, d_out=8, group=2, seed=0)
    >>> bool(np.allclose(world.map().T, world.c * world.Sigma @ world.B @ world.gram()))
    True

    Args:
        d_in: gates. d_out: output latents.
        group: gates that open together, with the chance `together`; `alone`: each by itself.
        groups: the chance that a group opens.
        size: standard deviation of an output latent, about.
        c: of E[drho | x] = c Sigma beta(x); at 20 a template is about as large as the noise.
        seed: of templates and covariance.

    Raises:
        MapError: no gates, gates of no group, or fewer than two output latents.
    """
    for name, count in (("d_in", d_in), ("d_out", d_out), ("group", group)):
        check_positive_int(name, count, MapError)
    if d_out < 2:
        raise MapError(f"d_out is {d_out}; expected at least 2, so that latents can be correlated.")
    generator = np.random.default_rng(seed)
    loadings = generator.standard_normal((d_out, d_out // 4))
    scales = size * (0.5 + generator.random(d_out))
    correlated = 0.5 * np.eye(d_out) + loadings @ loadings.T / (d_out // 2)
    Sigma = scales[:, None] * correlated * scales[None, :]
    B = generator.standard_normal((d_out, d_in)) * (generator.random((d_out, d_in)) < 0.25)
    return World(B, Sigma, c, together, alone, groups, group)
