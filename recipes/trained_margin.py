"""Measure what a trained adapter or model does to held-out preferences, against no training.

    python recipes/trained_margin.py TRIPLES --trained dpo --start 500 --triples 30

Both responses are teacher-forced behind their prompt, with and without what a training recipe
left in `--trained`; what is told is the change of their log p per token, and of the margin between
them, with 95 % bootstrap intervals over triples. Prompts over `--max-tokens` less the response's
are left out, and responses are cut, as in training. On one CPU thread and at 80 tokens, 30 triples
take a minute. Needs `pip install 'dspa-nn[train]'`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from _training import options, run, texts

import dspa_nn as dn
from dspa_nn.baselines import AdapterMethod, Subject, WeightsMethod
from dspa_nn.evaluation import Outcome, margin_values, margins
from dspa_nn.triples import PreferenceTriple


def cut(tokenizer: Any, triples: list[PreferenceTriple], room: texts.Room) -> list[Any]:
    """The triples that fit, their responses cut; those that are equal then are left out."""
    kept: list[PreferenceTriple] = []
    for triple in triples:
        ends = [
            texts.first_tokens(tokenizer, text, room.response)
            for text in (triple.chosen, triple.rejected)
        ]
        short = replace(triple, chosen=ends[0], rejected=ends[1])
        if ends[0] != ends[1] and texts.fits(tokenizer, short, room):
            kept.append(short)
    return kept


def main(
    source: Annotated[str, typer.Argument(help="triples: what load_triples takes")],
    trained: Annotated[list[Path], typer.Option(help="folders that a training recipe left")],
    out: Annotated[Path, typer.Option(help="receives the figures")] = Path("margin.json"),
    start: Annotated[int, typer.Option(help="the first row that is taken")] = 0,
    stop: Annotated[int | None, typer.Option(help="the row before which to end")] = None,
    triples: Annotated[int, typer.Option(help="how many, of those that fit")] = 30,
    max_tokens: Annotated[int, typer.Option(help="of a sequence")] = 1024,
    max_response: Annotated[int | None, typer.Option(help="tokens of a response")] = None,
) -> None:
    """Measure what a trained adapter or model does to held-out preferences."""
    dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
    number = None if stop is None else stop - start
    listed = run.take(source, number, start)
    room = texts.Room(max_tokens, max_response)
    held_out = cut(dspa.facts.tokenizer, listed, room)[:triples]
    methods = [
        (AdapterMethod if (folder / "adapter_config.json").is_file() else WeightsMethod)(
            folder.name, Subject(dspa), folder
        )
        for folder in trained
    ]
    found = margins(dspa, held_out, methods)[1:]
    rows: list[dict[str, Any]] = []
    for method, measured in zip(methods, found, strict=True):
        values = margin_values(measured)
        change = Outcome(method.name, values).effect(0)
        parts = {part: getattr(change, part) for part in ("margin", "chosen", "rejected")}
        rows.append(
            {
                "trained": method.name,
                "triples": len(held_out),
                **{part: [own.mean, own.low, own.high] for part, own in parts.items()},
                "kl": float(values["kl"].mean()),
            }
        )
        print(f"{method.name}, {len(held_out)} triples: {change}; {change.moved()}")
    out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    options.start(main)
