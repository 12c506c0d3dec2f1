"""What a map does at several strengths: the change of the margin and its price, over alpha."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from dspa_nn.errors import EvaluationError
from dspa_nn.evaluation.effects import Effect
from dspa_nn.evaluation.margin import margins
from dspa_nn.evaluation.statistics import Interval, bootstrap
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.shown import check_axes, pyplot, shown, table_html
from dspa_nn.steering import DSPA, DSPAMethod, SteeringOptions

if TYPE_CHECKING:
    import pandas

ALPHAS = (0.1, 0.2, 0.4, 0.8, 1.6)
# Of middle lightness, so that they can be told on white and on black.
_LINES = (("margin", "#3b8ad8", "o"), ("chosen", "#3f9a5a", "^"), ("rejected", "#d9772b", "v"))


@dataclass(frozen=True)
class AlphaPoint:
    """What was measured at one alpha, on the same triples as at every other.

    Attributes:
        alpha: size of an edit, in units of the token's strongest latent.
        effect: change of the margin with its two parts, nats per token.
        kl: KL(unsteered || steered) per token, nats: the price.
        share: norm of the residual stream's change over its norm.
    """

    alpha: float
    effect: Effect
    kl: Interval
    share: Interval


@dataclass(frozen=True)
class AlphaCurve:
    """A map's effect and its price over alpha, with paired bootstrap intervals.

    Example:
        >>> curve = alpha_curve(dspa, map, triples[:4], [0.2, 0.8])
        >>> print(curve)
           alpha  margin                    chosen                    rejected  ...
        ...
        >>> curve.plot()[0].get_ylabel()
        'change, nats per token'

    Attributes:
        points: one for each alpha, ascending.
    """

    points: tuple[AlphaPoint, ...]

    def __getitem__(self, place: int) -> AlphaPoint:
        return self.points[place]

    def __len__(self) -> int:
        return len(self.points)

    def to_pandas(self) -> "pandas.DataFrame":
        """One line for each alpha: means, and the ends of their intervals.

        Example:
            >>> alpha_curve(dspa, map, triples[:4], [0.2]).to_pandas().columns[:4].tolist()
            ['alpha', 'margin', 'margin_low', 'margin_high']
        """
        import pandas

        lines: list[dict[str, float]] = []
        for point in self.points:
            line = {"alpha": point.alpha}
            for name, value in _values(point).items():
                line |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
            lines.append(line)
        return pandas.DataFrame(lines)

    def plot(self, axes: Any = None) -> Any:
        """Draw the margin with its parts, and below them the KL, over alpha, with matplotlib.

        Bars are 95 % intervals. `axes`: two of matplotlib's to draw on; returned, as are new ones
        where None is given.
        """
        check_axes(axes, 2)
        if axes is None:
            _, axes = pyplot().subplots(
                2, 1, sharex=True, figsize=(6, 5), layout="constrained", squeeze=True,
                height_ratios=(2, 1),
            )  # fmt: skip
        alphas = [point.alpha for point in self.points]
        values = [_values(point) for point in self.points]
        drawn = [(axes[0], *line) for line in _LINES] + [(axes[1], "kl", "#828282", "s")]
        for axis, name, colour, marker in drawn:
            each = [value[name] for value in values]
            ends = (
                [one.mean - one.low for one in each],
                [one.high - one.mean for one in each],
            )
            axis.errorbar(
                alphas, [one.mean for one in each], ends, color=colour, marker=marker,
                markersize=4, capsize=2, linewidth=1.2, label=name,
            )  # fmt: skip
        axes[0].axhline(0, color="#828282", linewidth=0.8, linestyle="--")
        axes[0].set_ylabel("change, nats per token")
        axes[0].legend(frameon=False, fontsize="small")
        axes[1].set_ylabel("KL per token")
        axes[1].set_xlabel("alpha")
        return axes

    def _cells(self) -> list[list[str]]:
        return [
            [f"{point.alpha:g}", *(str(one) for one in _values(point).values())]
            for point in self.points
        ]

    def _repr_html_(self) -> str:
        heads = ["alpha", "margin", "chosen", "rejected", "KL per token", "stream moved"]
        n = self.points[0].effect.margin.n
        return shown(
            f"Alpha curve over {n} triples", table_html(heads, self._cells(), "nats per token:")
        )

    def __str__(self) -> str:
        heads = ["alpha", "margin", "chosen", "rejected", "KL per token", "stream moved"]
        lines = [heads, *self._cells()]
        return "\n".join(
            f"{line[0]:>8}  " + "  ".join(f"{cell:<24}" for cell in line[1:]).rstrip()
            for line in lines
        )

    __repr__ = __str__


def alpha_curve(
    dspa: DSPA,
    map: ConditionalDifferenceMap,
    triples: Iterable[Any],
    alphas: Sequence[float] = ALPHAS,
    *,
    seed: int = 0,
    advance: Callable[[int], object] | None = None,
    **options: Unpack[SteeringOptions],
) -> AlphaCurve:
    """Measure a map at several alphas on held-out triples.

    Example:
        >>> curve = alpha_curve(dspa, map, triples[:4], [0.0, 0.8], mode="both")
        >>> curve[0].effect.margin.mean, [point.alpha for point in curve]
        (0.0, [0.0, 0.8])

    Choose an alpha on development triples, never on those that are reported.

    Args:
        dspa: the model and its SAEs.
        map: what is applied.
        triples: what `margins` takes; both responses are teacher-forced once for each alpha.
        alphas: at least one; each at least 0.
        seed: of the bootstrap.
        advance: called with the responses that are done, as in `margins`.
        options: further keywords of `apply`, the same at every alpha.

    Raises:
        EvaluationError: no alphas, or `alpha` among the options.
        SteeringError: an alpha or another setting out of range.
        DSPAError: what `margins` raises.
    """
    if not len(alphas):
        raise EvaluationError("alpha_curve was given no alphas; give at least one, as [0.2, 0.8]")
    if "alpha" in options:
        raise EvaluationError(
            f"alpha_curve was given alpha={options['alpha']!r}; give alphas=, a list of them"
        )
    wanted = sorted(set(alphas))
    methods = [
        DSPAMethod(f"alpha {alpha:g}", dspa, map, {**options, "alpha": alpha}) for alpha in wanted
    ]
    measured = margins(dspa, triples, methods, advance=advance)[1:]
    return AlphaCurve(
        tuple(
            AlphaPoint(
                float(alpha),
                one.effect(seed=seed),
                bootstrap(one.kl, seed=seed),
                bootstrap(one.share, seed=seed),
            )
            for alpha, one in zip(wanted, measured, strict=True)
        )
    )


def _values(point: AlphaPoint) -> dict[str, Interval]:
    """What a point holds, by name."""
    parts = point.effect
    return {
        "margin": parts.margin, "chosen": parts.chosen, "rejected": parts.rejected,
        "kl": point.kl, "share": point.share,
    }  # fmt: skip
