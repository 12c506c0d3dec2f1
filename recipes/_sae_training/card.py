"""The model card of a folder of SAEs: from their configs, the figures and a page of notes."""

from pathlib import Path
from typing import Any

from .evaluation import table

_CARD = """---
license: apache-2.0
library_name: saelens
base_model: {model}
tags:
- sparse-autoencoder
- saelens
- interpretability
---

# TopK SAEs on the residual stream of {model}

One sparse autoencoder for the residual stream after each of the decoder blocks {layers}
(0-based; `blocks.L.hook_resid_post`): {width} latents, the {k} largest of which are active on a
token. Weights are stored as float16 and run in float32, as `dtype` in their config says. No
activation normalisation is left to run time, and every decoder row has norm 1.

## How to load

```python
from sae_lens import SAE

sae = SAE.load_from_disk("{first}")
latents = sae.encode(residual)  # residual: [..., {d_in}], float32
residual_again = sae.decode(latents)
```

Leave out position 0 of a sequence: its norm is an outlier that these SAEs never saw.

## Measured

On the stored float16 weights, loaded with SAELens. Held out: {held_out}. FVU is the fraction of
variance unexplained, against the held-out mean; a latent is dead if it fires on none of the tokens
looked at. For the losses, the layer's output is replaced at every position but position 0, by the
reconstruction, by the held-out mean or by zero.

{table}

## How trained

{training}

{notes}
## Licence

Apache-2.0, as the model. The training texts are under their own licences and are not part of this
folder.
"""


def training_table(saes: dict[int, Any]) -> str:
    """What each SAE's config says of its training, one row per SAE."""
    keys = ("training_tokens", "epochs", "batch", "lr", "seed")
    lines = [
        "| layer | tokens | epochs | batch | learning rate | seed |",
        "|---|---|---|---|---|---|",
    ]
    for layer, sae in saes.items():
        cells = [str(sae.cfg.metadata[key]) for key in keys]
        lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_card(
    folder: Path,
    saes: dict[int, Any],
    figures: dict[int, dict[str, float]],
    *,
    held_out: list[str],
    notes: str,
) -> Path:
    """Write `README.md` into the folder, in the style of a Hugging Face model card."""
    first = next(iter(saes.values())).cfg
    training = (
        f"With SAELens {first.metadata.sae_lens_training_version}'s own trainer, by "
        f"`recipes/train_embedded_saes.py`, on {', '.join(first.metadata.training_texts)} (after "
        f"the `@`: rows, as a Python slice), rendered with the model's chat template, at most "
        f"{first.metadata.context_size} tokens each, position 0 left out. Texts that begin as a "
        "held-out one does are left out. Adam, a linear warm-up and a linear decay of the learning "
        "rate to 0; inputs scaled to a mean norm of sqrt(d), the scale folded into the weights "
        "afterwards; the decoder's bias begins at the mean.\n\n" + training_table(saes)
    )
    text = _CARD.format(
        model=first.metadata.model_name,
        layers=", ".join(map(str, saes)),
        width=first.d_sae,
        k=first.k,
        d_in=first.d_in,
        first=first.metadata.hook_name,
        held_out=", ".join(held_out),
        table=table(figures),
        training=training,
        notes=notes.strip() + "\n\n" if notes.strip() else "",
    )
    path = folder / "README.md"
    path.write_text(text)
    return path
