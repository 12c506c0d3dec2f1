"""Choose a preset's settings by what steers best on the demo's development triples.

    python recipes/tune_preset.py --out work/tuning
    python recipes/tune_preset.py --set news --trials 128

Maps are fitted on the demo's fitting triples, and settings are compared on its development triples;
the test triples are never read. The search is that of `dspa tune` (docs/howto/tune.md): ways of
counting and voting by held-out ranking first, then k_diff, mode and alpha by steered margin within
a limit on damage. Run again, it goes on where it was.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import dspa_nn as dn
from dspa_nn.triples import DemoRow, read_demo_rows, take_demo_rows
from dspa_nn.tuning import Tuning, tune

PRESET = "smollm2-135m-instruct"


def search(dspa: dn.DSPA, rows: Sequence[DemoRow], options: argparse.Namespace) -> Tuning:
    """Tune on the fitting and development rows."""
    fitting, development = (
        [row.triple for row in take_demo_rows(rows, split, most)]
        for split, most in (("fit", options.fit), ("dev", options.dev))
    )
    return tune(
        dspa, fitting, development, options.out, trials=options.trials, keep=options.keep,
        kl=options.kl, perplexity=options.perplexity, answers=options.answers,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--set", default="register", choices=("news", "register"))
    parser.add_argument("--out", type=Path, default=Path("work/tuning"))
    parser.add_argument("--fit", type=int, default=250, help="triples to fit on")
    parser.add_argument("--dev", type=int, default=None, help="development triples, all if left")
    parser.add_argument("--trials", type=int, default=64, help="settings to measure")
    parser.add_argument("--keep", type=int, default=2, help="voting settings kept of each rule")
    parser.add_argument("--kl", type=float, default=0.15, help="most nats per token")
    parser.add_argument("--perplexity", type=float, default=1.25, help="highest ratio")
    parser.add_argument("--answers", type=int, default=30, help="prompts to answer for that")
    options = parser.parse_args()
    found = search(dn.DSPA.from_preset(PRESET), read_demo_rows(options.set), options)
    print(found)
    print(f"written to {found.json}")


if __name__ == "__main__":
    main()
