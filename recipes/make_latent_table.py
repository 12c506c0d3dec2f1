"""Say in words what the latents of the embedded SAEs are about: the tables in `assets/latents`.

    python recipes/make_latent_table.py            # 10 minutes on one core

For every latent that is active in the demo's triples: the tokens on which it is strongest, two
places with their context, and for the output SAE the tokens that its decoder row promotes. The
texts are those that the package brings along, which the embedded model wrote itself. No judge is
asked, and no word here is proof of what a latent does.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from dspa_nn import DSPA
from dspa_nn.audit import Side, meaning_of_snippets, snippets
from dspa_nn.evaluation import promoted_tokens
from dspa_nn.saes import LoadedSAE, write_meanings
from dspa_nn.triples import read_demo_rows

ASSETS = Path(__file__).parents[1] / "dspa_nn" / "assets" / "latents"
PLACES, WORDS, CONTEXT = 20, 6, (7, 3)
ABOUT = "demo triples of the package (Apache-2.0), written by the embedded model"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--limit", type=int, default=None, help="triples of each set")
    given = parser.parse_args()
    dspa = DSPA.from_preset("smollm2-135m-instruct")
    sets = ("news", "register")
    triples = [row.triple for name in sets for row in read_demo_rows(name)[: given.limit]]
    sides: tuple[tuple[Side, LoadedSAE], ...]
    sides = ("input", dspa.input_sae), ("output", dspa.output_sae)
    for side, sae in sides:
        with tqdm(total=2 * len(triples), desc=f"{side} latents") as bar:
            found = snippets(
                dspa, triples, side=side, most=PLACES,
                before=CONTEXT[0], after=CONTEXT[1], advance=bar.update,
            )  # fmt: skip
        every = range(sae.width) if side == "output" else found
        words = promoted_tokens(dspa, every, most=WORDS) if side == "output" else {}
        meanings = {
            latent: meaning_of_snippets(found.get(latent, []), promotes=words.get(latent, ()))
            for latent in every
        }
        path = given.out / f"{sae.sha256[:16]}.json"
        write_meanings(path, meanings, sae_sha256=sae.sha256, about=f"{sae.id}: {ABOUT}")
        print(f"{path.name}: {len(found)} of {sae.width} latents active, "
              f"{path.stat().st_size / 1e6:.2f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
