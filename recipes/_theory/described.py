"""What the bounds say on real counts, and how M is conditioned on a prompt's gates."""

from collections.abc import Mapping

import numpy as np

from dspa_nn.counts import ActivationCounts
from dspa_nn.theory import co_activation, prompt_conditioning, row_bounds, sample_of

PERCENTILES = (50, 90)


def described(fitting: Mapping[str, ActivationCounts]) -> str:
    """Two tables: rows of A with their bounds, and M_S of the prompts."""
    rows = [
        "| set | N | p | rows | N_i, median (most) | radius, median (least) | largest mean, median "
        "(most) | rows whose sign is certain | N_i needed, median | other gates open with one, "
        "median |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    sets = [
        "| set | N | p | open gates, median | rank of M_S, median | singular | condition number of "
        "the others, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, counts in fitting.items():
        for percentile in PERCENTILES:
            sample = sample_of(counts, percentile=percentile, prompt_tokens="content")
            found = row_bounds(sample)
            used = found.opened > 0
            others = co_activation(sample.gates, np.ones(len(used))).others[used]
            needed = found.needed(counts.d_out)[used]
            opened, radius, largest = (
                values[used] for values in (found.opened, found.radius, found.largest)
            )
            where = f"| {name} | {sample.n:,} | {percentile} |"
            rows.append(
                f"{where} {int(used.sum()):,} | {np.median(opened):.0f} ({opened.max():,}) | "
                f"{np.median(radius):.2f} ({radius.min():.2f}) | {np.median(largest):.3f} "
                f"({largest[opened >= 5].max():.3f}) | {100 * found.telling:.1f} % | "
                f"{np.median(needed):,.0f} | {np.median(others):.0f} |"
            )
            matrices = prompt_conditioning(sample, most=100)
            singular = np.array([one.singular for one in matrices])
            rest = [one.number for one in matrices if not one.singular]
            number = f"{np.median(rest):,.0f}" if rest else "-"
            sets.append(
                f"{where} {np.median([one.size for one in matrices]):.0f} | "
                f"{np.median([one.rank for one in matrices]):.0f} | "
                f"{100 * singular.mean():.0f} % | {number} |"
            )
    return "\n".join([*rows, "", *sets, ""])
