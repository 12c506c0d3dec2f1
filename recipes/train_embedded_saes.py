r"""Train TopK SAEs on a model's residual stream, on a CPU, from any text, and measure them.

    python recipes/train_embedded_saes.py TEXTS... --held-out TEXTS --layers 9,24 --out saes

Texts are JSON Lines (gzip or not) of preference triples, whole dialogues, `messages` or `text`, or
plain text; `triples.jsonl@0:400` takes the first 400 rows only. With the defaults and 800,000
tokens this is the recipe of the SAEs that ship with the package (`dspa_nn/assets/saes`): on two
cores about 15 minutes for one pass of the model and 15 for each SAE. It can be interrupted
and run again: the pass and the training go on where they stopped (in `--work`).

    python recipes/train_embedded_saes.py TEXTS... --held-out TEXTS --out saes-2 \
        --start-from saes --only-dead --epochs 0.5 --decay 0.5 --seed 1

then gives the latents that fire on no training token new directions, and trains those alone.

    python recipes/train_embedded_saes.py --evaluate-only saes --held-out TEXTS

measures SAEs that exist, of any SAELens architecture, and writes their card again.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from _sae_training import activations, card, evaluation, revive, texts, training

from dspa_nn.errors import DSPAError
from dspa_nn.models import REPO_ID, model_path

FIRST = training.Settings()


def load_model(name: str | None) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = name or model_path()
    model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(path)


def evaluate(
    folder: Path,
    model: Any,
    tokenizer: Any,
    sources: list[texts.Source],
    *,
    work: Path,
    context: int,
    tokens: int,
    loss_tokens: int,
) -> dict[int, dict[str, float]]:
    """Measure every SAE in a folder on held-out text; see `_sae_training.evaluation`.

    Args:
        folder: holds one SAELens folder per SAE.
        model: the causal language model, float32; not run in lower precision here.
        tokenizer: its tokenizer.
        sources: held-out text; each is also measured alone.
        work: where the held-out activations are kept, to be used again.
        context: tokens per sequence, at most.
        tokens: tokens of each source to look at.
        loss_tokens: predictions of each source to score with reconstructions spliced in.
    """
    saes = evaluation.saved_saes(folder)
    if not saes:
        raise DSPAError(f"no SAE was found in {folder}, and folders with a cfg.json were expected")
    layers, sets, rows = list(saes), {}, []
    for source in sources:
        ids = texts.token_ids(texts.documents(source), tokenizer, context, seed=0)
        kept = work / f"held-out-{source.label}-{'-'.join(map(str, layers))}"
        activations.collect(model.model, ids, layers, kept, tokens=tokens, pad=0)
        sets[source.label] = kept
        rows.append(ids)
    figures, means = {}, {}
    for layer, sae in saes.items():
        stored = {name: activations.load(kept, layer) for name, kept in sets.items()}
        figures[layer] = evaluation.error_and_latents(sae, stored)
        total = sum(part.sum(0, dtype="float64") for part in stored.values())
        means[layer] = torch.from_numpy(total / figures[layer]["tokens"]).float()
    # As many tokens of each source: otherwise one with long rows would dominate the loss.
    mixed = [row for ids in rows for row in evaluation.up_to(ids, loss_tokens)]
    losses = evaluation.loss_recovered(model, saes, means, mixed, pad=0)
    return {layer: figures[layer] | losses[layer] for layer in layers}


def train_all(
    sources: list[texts.Source],
    held_out: list[texts.Source],
    model: Any,
    tokenizer: Any,
    layers: list[int],
    settings: training.Settings,
    *,
    start_from: Path | None,
    only_dead: bool,
    name: str,
    out: Path,
    work: Path,
    context: int,
    tokens: int,
    fast: bool,
) -> None:
    """One pass of the model over the texts, then one SAE per layer, stored once it is trained."""
    documents = [document for source in sources for document in texts.documents(source)]
    barred = [document for source in held_out for document in texts.documents(source)]
    documents = texts.without_openings_of(documents, barred)
    rows = texts.token_ids(documents, tokenizer, context, settings.seed)
    kept = work / "train"
    count = activations.collect(model.model, rows, layers, kept, tokens=tokens, pad=0, fast=fast)
    told = {"training_texts": [source.label for source in sources], "training_tokens": count}
    for layer in layers:
        hook = f"blocks.{layer}.hook_resid_post"
        metadata: dict[str, Any] = {
            "model_name": name,
            "hook_name": hook,
            "context_size": context,
            "prepend_bos": True,
        }
        metadata |= told | {k: asdict(settings)[k] for k in ("epochs", "batch", "lr", "seed")}
        key = json.dumps([metadata, asdict(settings), str(start_from), only_dead])
        checkpoints = work / f"layer{layer}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        stored = activations.load(kept, layer)
        start = start_from / hook if start_from else None
        revival = revive.plan(start, stored, settings.seed) if start and only_dead else None
        sae = training.train([stored], settings, metadata, checkpoints, start, revival)
        training.store(sae, out / hook)


def main(
    sources: Annotated[list[str] | None, typer.Argument(help="texts to train on")] = None,
    held_out: Annotated[list[str] | None, typer.Option(help="texts to measure on")] = None,
    layers: Annotated[str, typer.Option(help="0-based decoder blocks, as in 9,24")] = "9,24",
    out: Annotated[Path, typer.Option(help="receives a folder an SAE, and README.md")] = Path(
        "saes"
    ),
    work: Annotated[Path, typer.Option(help="activations and checkpoints")] = Path("work/saes"),
    tokens: Annotated[int, typer.Option(help="training tokens, position 0 left out")] = 800_000,
    width: int = FIRST.width,
    k: int = FIRST.k,
    epochs: float = FIRST.epochs,
    batch: int = FIRST.batch,
    lr: float = FIRST.lr,
    decay: Annotated[float, typer.Option(help="share of steps with lr falling")] = FIRST.decay,
    dead_window: Annotated[int, typer.Option(help="steps without firing")] = FIRST.dead_window,
    seed: int = FIRST.seed,
    start_from: Annotated[Path | None, typer.Option(help="begin with this folder's SAEs")] = None,
    only_dead: Annotated[bool, typer.Option(help="train their dead latents alone")] = False,
    context: Annotated[int, typer.Option(help="tokens a sequence")] = 1024,
    model: Annotated[str | None, typer.Option(help="a model; else the embedded one")] = None,
    model_name: Annotated[str | None, typer.Option(help="its name, for the card")] = None,
    fast: Annotated[bool, typer.Option(help="bfloat16 products in the training pass")] = True,
    held_out_tokens: Annotated[int, typer.Option(help="of each held-out text")] = 55_000,
    loss_tokens: Annotated[int, typer.Option(help="of each held-out text")] = 8_000,
    notes: Annotated[Path | None, typer.Option(help="Markdown for the card")] = None,
    evaluate_only: Annotated[Path | None, typer.Option(help="measure this folder of SAEs")] = None,
) -> None:
    trained = [texts.Source.parse(text) for text in sources or []]
    held = [texts.Source.parse(text) for text in held_out or []]
    if not held or not (trained or evaluate_only):
        raise typer.BadParameter("name texts to train on (or --evaluate-only) and --held-out texts")
    causal, tokenizer = load_model(model)
    folder = evaluate_only or out
    if evaluate_only is None:
        train_all(
            trained,
            held,
            causal,
            tokenizer,
            [int(layer) for layer in layers.split(",")],
            training.Settings(
                width=width,
                k=k,
                epochs=epochs,
                batch=batch,
                lr=lr,
                decay=decay,
                dead_window=dead_window,
                seed=seed,
            ),
            start_from=start_from,
            only_dead=only_dead,
            name=model_name or model or REPO_ID,
            out=out,
            work=work,
            context=context,
            tokens=tokens,
            fast=fast,
        )
    figures = evaluate(
        folder,
        causal,
        tokenizer,
        held,
        work=work,
        context=context,
        tokens=held_out_tokens,
        loss_tokens=loss_tokens,
    )
    print(evaluation.table(figures))
    written = card.write_card(
        folder,
        evaluation.saved_saes(folder),
        figures,
        held_out=[source.label for source in held],
        notes=notes.read_text() if notes else "",
    )
    print(f"wrote {written}")


if __name__ == "__main__":
    typer.run(main)
