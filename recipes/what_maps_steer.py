"""What the demo's maps steer, and whether other triples would have given the same.

What it found is in docs/howto/latents.md.

    python recipes/what_maps_steer.py        # 4 minutes on one core; counts are kept for a next run

For each set: maps of 250 triples with the preset's settings; the share of planned latents that the
ranked sets hold, on held-out prompts; coverage; halves; categories by rule against random latents.
No judge is asked.
"""

import argparse
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from dspa_nn import DSPA, ConditionalDifferenceMap, DSPAWarning
from dspa_nn.audit import (
    category_by_rule,
    category_table,
    coverage,
    latents_to_compare,
    stability,
    steered_latents,
)
from dspa_nn.counts import ActivationCounts, CountRun, count_or_recall
from dspa_nn.saes import meanings_of
from dspa_nn.steering import Plan
from dspa_nn.triples import demo_triples

SETS = ("plans", "news", "register")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--triples", type=int, default=250, help="to fit on")
    parser.add_argument("--new", type=int, default=60, help="held-out prompts of each set at most")
    parser.add_argument("--resamplings", type=int, default=20)
    given = parser.parse_args()
    warnings.simplefilter("ignore", DSPAWarning)
    dspa = DSPA.from_preset("smollm2-135m-instruct")
    test = {name: list(demo_triples("test", name))[: given.new] for name in SETS}
    new = {name: counted(dspa, triples) for name, triples in test.items()}
    table = meanings_of(dspa.output_sae.sha256)
    active = {latent: meaning for latent, meaning in table.items() if meaning.fires_on}
    for name in SETS:
        counts = counted(dspa, list(demo_triples("fit", name))[: given.triples])
        map = counts.fit()
        print(f"\n# {name}\n{map}\n{steered_latents(map, 5)}\n")
        print(coverage(map, new[name]))
        for other in SETS:
            if other != name:
                found = coverage(map, new[other])
                print(f"  on {other}: {found.covered}, never opened {len(found.never)}")
        for rule in ("centred", "gated", "density"):
            plans = [
                dspa.plan(map, one.prompt, prompt_rule=rule, mode="both") for one in test[name]
            ]
            print(f"  planned by {rule}: {held(map, plans)}")
        print(stability(counts, resamplings=given.resamplings))
        sets = latents_to_compare(map, active)
        sorted_ = {
            one: {n: category_by_rule(m) for n, m in each.items()} for one, each in sets.items()
        }
        print(category_table(sorted_))


def counted(dspa: DSPA, triples: Sequence[object]) -> ActivationCounts:
    return count_or_recall(CountRun(dspa, triples))


def held(map: ConditionalDifferenceMap, plans: Sequence[Plan]) -> Mapping[str, str]:
    """The share of planned latents, over all plans, that are among the map's ranked ones."""
    ranked = steered_latents(map, 50)
    twice = {one.latent for one in steered_latents(map, 100).either}
    told: dict[str, str] = {}
    for name in ("augment", "ablate"):
        planned = np.array([latent for plan in plans for latent, _ in getattr(plan, name)])
        top = [one.latent for one in getattr(ranked, name)]
        told[name] = (
            f"{np.isin(planned, top).mean():.2f} in the top 50 by sum, "
            f"{np.isin(planned, list(twice)).mean():.2f} in the top 100 by size, "
            f"{len(set(planned.tolist()))} different ones"
        )
    return told


if __name__ == "__main__":
    main()
