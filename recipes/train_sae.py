r"""Train a published SAE further on preference text, with SAELens' trainer.

    python recipes/train_sae.py triples.jsonl@0:400 --out sae \
        --sae dspa_nn/assets/saes/blocks.9.hook_resid_post
    python recipes/train_sae.py hh-rlhf.jsonl.gz --out sae --model google/gemma-2-2b \
        --sae gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical

The paper's SAEs are Gemma Scope's, fine-tuned on HH-RLHF; it gives no setting of that, so that the
defaults here are ours. Texts are what `train_embedded_saes.py` takes: of preference triples both
responses, behind the prompt, in the model's chat format. The model runs over them once, up to the
SAE's layer; the SAE is then trained with its own kind of loss, and stored in the form that it came
in: `load_sae` and SAELens read the folder as they read the published one. It writes the SAE to
`--out`, activations, checkpoints and `loss.jsonl` to `--work`, and goes on from the last checkpoint
when it is run again. Of SAELens' types, "jumprelu", "standard" and "topk" can be trained further.
"""

from pathlib import Path
from typing import Annotated

import typer
from _sae_training import activations, finetune, texts
from _training import options, run

from dspa_nn.models import read_facts

FIRST = finetune.Settings()


def main(
    sources: Annotated[list[str], typer.Argument(help="texts, as in triples.jsonl@0:400")],
    sae: Annotated[str, typer.Option(help="a folder, or release/sae_id")],
    out: Annotated[Path, typer.Option(help="receives the SAE")] = Path("sae"),
    work: Annotated[Path, typer.Option(help="activations and checkpoints")] = Path("work/sae"),
    model: Annotated[str | None, typer.Option(help="hub id or folder; the embedded one")] = None,
    tokens: Annotated[int, typer.Option(help="training tokens, position 0 left out")] = 800_000,
    context: Annotated[int, typer.Option(help="tokens a sequence")] = 1024,
    steps: Annotated[int | None, typer.Option(help="optimiser steps in place of epochs")] = None,
    epochs: Annotated[float, typer.Option(help="passes over the tokens")] = FIRST.epochs,
    batch: Annotated[int, typer.Option(help="tokens to a step")] = FIRST.batch,
    lr: Annotated[float, typer.Option(help="learning rate")] = FIRST.lr,
    sparsity: Annotated[float, typer.Option(help="weight of L0 or L1")] = FIRST.sparsity,
    checkpoints: Annotated[int, typer.Option(help="how many on the way")] = FIRST.checkpoints,
    fast: Annotated[bool, typer.Option(help="bfloat16 products in the pass of the model")] = False,
    seed: Annotated[int, typer.Option(help="of the order")] = FIRST.seed,
) -> None:
    """Train a published SAE further on preference text."""
    settings = finetune.Settings(
        epochs=epochs, steps=steps, batch=batch, lr=lr, sparsity=sparsity, checkpoints=checkpoints,
        seed=seed,
    )  # fmt: skip
    loaded, tokenizer = run.load(model)
    own = finetune.load(sae)
    read, layer = finetune.check(own, sae, read_facts(loaded, tokenizer))
    parsed = [texts.Source.parse(text) for text in sources]
    documents = [document for source in parsed for document in texts.documents(source)]
    rows = texts.token_ids(documents, tokenizer, context, seed)
    told = {"sae": read.id, "sae_sha256": read.sha256, "texts": [source.label for source in parsed]}
    run.agree(out, {"settings": run.noted(out, settings), "origin": told | {"rows": len(rows)}})
    count = activations.collect(
        loaded.eval().model, rows, [layer], work / "tokens", tokens=tokens, pad=0, fast=fast
    )
    trained = finetune.train(own, activations.load(work / "tokens", layer), settings, work)
    finetune.store(trained, out, told | {"tokens": count}, settings)
    losses = run.losses_in(work / "loss.jsonl")
    print(f"{len(losses)} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}; saved to {out}")


if __name__ == "__main__":
    options.start(main)
