"""The latents that a map steers most beside random ones, each put in a category by a judge."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from dspa_nn.audit.categories import CategoryTable, category_table
from dspa_nn.audit.explaining import explain, judged_meanings
from dspa_nn.audit.places import Text
from dspa_nn.audit.steered import MOST, steered_latents
from dspa_nn.checks import check_positive_int, check_seed
from dspa_nn.errors import DSPAError
from dspa_nn.judges import Judge
from dspa_nn.maps import ConditionalDifferenceMap
from dspa_nn.saes import LatentMeaning
from dspa_nn.steering import DSPA


def compare_with_random(
    map: ConditionalDifferenceMap,
    texts: Iterable[Text],
    judge: Judge,
    *,
    dspa: DSPA,
    n: int = MOST,
    most: int = 10,
    seed: int = 0,
    parallel: int = 4,
    advance: Callable[[int], object] | None = None,
) -> CategoryTable:
    """Have a judge put the latents that a map steers most, and random ones, into categories.

    Example:
        >>> table = compare_with_random(map, texts, judge, dspa=dspa)  # doctest: +SKIP

    The sets are those of `steered_latents` and `random_latents`. Only latents that are active in
    the texts can be judged; the others count as being without a category.

    Args:
        map: whose latents.
        texts: where they are looked for, as in `explain`.
        judge: who is asked, two requests for each latent.
        dspa: the map's model and SAEs.
        n: latents of each set.
        most: places of each latent that the judge is shown.
        seed: of the random latents.
        parallel: requests at a time.
        advance: called with 1 for each latent that is done.

    Raises:
        DSPAError, JudgeError: what `explain` and `judged_meanings` raise.
    """
    sets = latents_to_compare(map, explain(None, texts, dspa=dspa, most=most), n=n, seed=seed)
    asked = {latent: meaning for each in sets.values() for latent, meaning in each.items()}
    judged = judged_meanings(asked, judge, parallel=parallel, advance=advance)
    return category_table(
        {name: {latent: judged[latent] for latent in each} for name, each in sets.items()},
        seed=seed,
    )


def latents_to_compare(
    map: ConditionalDifferenceMap,
    meanings: Mapping[int, LatentMeaning],
    *,
    n: int = MOST,
    seed: int = 0,
) -> dict[str, dict[int, LatentMeaning]]:
    """The latents that a map augments and ablates most, and as many random ones, with meanings.

    Example:
        >>> meanings = explain(None, triples[:2], dspa=dspa)
        >>> sets = latents_to_compare(map, meanings, n=3)
        >>> list(sets), len(sets["random"])
        (['augment', 'ablate', 'random'], 3)

    meanings: of all output latents that are active in some texts, as `explain` gives them. Random
    ones are drawn among those that are in neither set.
    """
    ranked = steered_latents(map, n)
    sets = {
        name: {one.latent: meanings.get(one.latent, LatentMeaning()) for one in latents}
        for name, latents in (("augment", ranked.augment), ("ablate", ranked.ablate))
    }
    taken = {latent for each in sets.values() for latent in each}
    drawn = random_latents(meanings, n, leave_out=taken, seed=seed)
    return sets | {"random": {latent: meanings[latent] for latent in drawn}}


def random_latents(
    among: Iterable[int], n: int, *, leave_out: Iterable[int] = (), seed: int = 0
) -> list[int]:
    """Draw n latents, ascending.

    Example:
        >>> random_latents(range(6), 3, leave_out=[0, 1, 2])
        [3, 4, 5]

    Raises:
        DSPAError: there are fewer than n.
    """
    check_positive_int("n", n, DSPAError)
    pool = np.array(sorted(set(among) - set(leave_out)), dtype=np.int64)
    if len(pool) < n:
        raise DSPAError(
            f"{n} random latents were asked for, and there are {len(pool)} to draw from; ask for "
            "fewer, or give more texts"
        )
    check_seed(seed, DSPAError)
    return sorted(map(int, np.random.default_rng(seed).choice(pool, n, replace=False)))
