"""What fitting costs, on paper: counted FLOPs of every way to align, GPU hours and bytes stored.

    python -m benchmarks.costs --out benchmarks/results
    python -m benchmarks.costs --quick            # two models, fewer triples counted for the bytes

FLOPs are counted on models without weights, so they are the same on every machine. The lengths of
UltraFeedback and the bytes per triple are measured with the embedded model; without the data
(DSPA_DATA, default ../shared/data) those tables are left out. About five minutes on two cores, one
with --quick.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._report import Rows, options, write
from dspa_nn.costs import (
    H100_PEAK,
    STEP_1_TOKENS,
    STEP_2_BATCHES,
    STEP_2_MOST,
    UTILISATION,
    CostTable,
    FitFlops,
    account_dspa,
    account_rahf,
    fit_flops,
    preset_costs,
    speed_up,
)
from dspa_nn.models import PRESETS, Preset, get_preset

PAPER = (1000, 1000, 1000)
PAPER_PARAMETERS = 8e9
FULL_DATA = 61_000
LARGE = ("gemma-2-9b", "qwen3-8b")
SIZED = "gemma-2-9b"
Lengths = Sequence[Sequence[int]]


def where(preset: Preset) -> dict[str, Any]:
    layers = {"input_layer": preset.input_layer, "output_layer": preset.output_layer}
    return {**layers, "d_in": preset.d_in, "d_out": preset.d_out}


def ours(name: str, lengths: Lengths, plan: str = "once") -> FitFlops:
    shape = get_preset(name)
    return fit_flops(shape.config, lengths, plan=plan, **where(shape))


def side_by_side(tables: dict[str, CostTable]) -> Rows:
    """TFLOP per triple, and in brackets the multiple of what `DSPA.count` costs."""
    first = next(iter(tables.values()))
    return [
        {
            "way": row.way,
            **{
                name: f"{table[row.way].flops / 1e12:.4g} ({table[row.way].ratio:.3g}x)"
                for name, table in tables.items()
            },
            "": row.known,
        }
        for row in first.rows
    ]


def formula_over_count(tables: dict[str, CostTable]) -> Rows:
    """RAHF-SCIT by the paper's formula, as a multiple of `DSPA.count` as counted."""
    rows = []
    for name in LARGE:
        counted, parameters = tables[name].rows[0].flops, tables[name].parameters
        rows.append(
            {
                "model": name,
                "P": f"{parameters:,}",
                "DSPA.count, counted (TFLOP)": counted / 1e12,
                "RAHF-SCIT, formula (TFLOP)": account_rahf(parameters) / 1e12,
                "ratio": f"{account_rahf(parameters) / counted:.2f}",
                "ratio at P = 8e9": f"{account_rahf(PAPER_PARAMETERS) / counted:.2f}",
                "ratio, both counted": f"{tables[name]['RAHF-SCIT'].ratio:.2f}",
            }
        )
    return rows


def from_account_to_count(table: CostTable) -> Rows:
    """How the account's figures become the counted ones: TFLOP per triple, a correction each."""
    parameters, cost = table.parameters, ours(table.model, [PAPER])
    step_1 = 48 * parameters * STEP_1_TOKENS
    rows = [
        ("DSPA: account, 2 P (3 p + c + r)", account_dspa(parameters, *PAPER)),
        ("... the prompt once, 2 P (p + c + r)", 2 * parameters * sum(PAPER)),
        ("... blocks to the output layer, no embeddings, no LM head", cost.blocks),
        ("... and attention", cost.blocks + cost.attention),
        ("... and both SAE encoders: as counted", cost.total),
        ("RAHF-SCIT step 1: account, 48 P L1", step_1),
        ("... as counted, with attention", table["RAHF-SCIT step 1"].flops),
        ("RAHF-SCIT step 2: account, 12 P (B L2) 0.02", account_rahf(parameters) - step_1),
        (
            "... as counted: no gradients of frozen weights, no blocks after the regressed ones",
            table["RAHF-SCIT step 2"].flops,
        ),
        (
            f"... and {STEP_2_MOST} steps in place of 0.02 N, at N = {FULL_DATA:,}",
            table["RAHF-SCIT step 2"].flops * STEP_2_MOST / (STEP_2_BATCHES * FULL_DATA),
        ),
    ]
    return [{"TFLOP per triple": what, table.model: flops / 1e12} for what, flops in rows]


def predicted(names: Sequence[str], lengths: Lengths) -> Rows:
    """Three plain passes over ours, in FLOPs, on triples of real lengths."""
    rows = []
    for name in names:
        shape = get_preset(name)
        pairs = ours(name, lengths, "pairs").total / ours(name, lengths).total
        rows.append(
            {
                "model": name,
                "DSPA.count (TFLOP per triple)": ours(name, lengths).per_triple / 1e12,
                "plain / DSPA.count": speed_up(shape.config, lengths, **where(shape)),
                "prompt twice / DSPA.count": pairs,
            }
        )
    return rows


def most_bytes() -> float:
    """Bytes per triple if every latent fired in every text: prompt, chosen and rejected."""
    shape = get_preset(SIZED)
    # Markup is counted apart from content, so a prompt may hold a latent twice.
    return 8.0 * (2 * shape.d_in + 2 * shape.d_out)


def sizing(lengths: Lengths | None, bytes_a_triple: float | None) -> Rows:
    """GPU hours of one fit on paper: counted FLOPs at an assumed share of an H100's peak."""
    rows = []
    cases = {"1000 / 1000 / 1000": [PAPER], "UltraFeedback's": lengths}
    for case, token_lengths in cases.items():
        if token_lengths is None:
            continue
        cost = ours(SIZED, token_lengths)
        for triples in (FULL_DATA, 10_000_000):
            hours = cost.gpu_hours(triples)
            row: dict[str, Any] = {
                "lengths": case,
                "triples": f"{triples:,}",
                "GPU hours": hours,
                **{f"hours on {gpus}": hours / gpus for gpus in (1, 8, 64)},
            }
            if bytes_a_triple is not None:
                # The lengths that were counted are UltraFeedback's.
                known = case == "UltraFeedback's"
                stored = bytes_a_triple if known else most_bytes()
                gigabytes = f"{stored * triples / 1e9:.4g}"
                row["GB stored"] = gigabytes if known else f"at most {gigabytes}"
            rows.append(row)
    return rows


def measured(source: Path, triples: int, counted: int) -> tuple[Lengths, dict[str, float]]:
    """Lengths of UltraFeedback's first triples, and bytes per triple of the first few's counts."""
    import dspa_nn as dn
    from dspa_nn.triples import ultrafeedback_rows

    dspa = dn.DSPA.from_preset("smollm2-135m-instruct")
    rows = dn.load_triples(source, chat=True, limit=len(ultrafeedback_rows("fit")))[:triples]
    lengths = []
    for triple in rows:
        prompt = dspa.render(triple.prompt)
        ends = [dspa.render(prompt, text).response_ids for text in (triple.chosen, triple.rejected)]
        lengths.append((len(prompt.ids), *map(len, ends)))
    counts = dspa.count(rows[:counted])
    with tempfile.TemporaryDirectory() as folder:
        counts.save(folder)
        stored = sum(path.stat().st_size for path in Path(folder).iterdir())
    names = ("content", "markup", "chosen", "rejected")
    entries = sum(getattr(counts, name).nnz for name in names)
    return lengths, {
        "triples": counted,
        "bytes per triple": stored / counted,
        "entries per triple": entries / counted,
    }


def main() -> None:
    """Print and write every table."""
    given = options(__doc__ or "")
    names = [name for name in PRESETS if not given.quick or name in LARGE]
    tables = {name: preset_costs(name, [PAPER]) for name in names}
    report: dict[str, Rows] = {
        "RAHF-SCIT by the paper's formula": formula_over_count(tables),
        "Side by side, prompt, chosen and rejected of 1000 tokens": side_by_side(tables),
        "From the account to the count": from_account_to_count(tables[SIZED]),
    }
    notes = [
        "The paper's account at p = c = r = 1000: RAHF-SCIT / DSPA = "
        f"{account_rahf(1) / account_dspa(1, *PAPER):.4f}.",
        "FLOPs are torch's count of matrix products; attention is the whole rectangle of queries "
        "by keys. Nothing here was timed.",
        f"GPU hours assume {UTILISATION:.0%} of {H100_PEAK / 1e12:.0f} TFLOP/s.",
    ]
    source = Path(os.environ.get("DSPA_DATA", "../shared/data")) / "ultrafeedback/triples.jsonl"
    lengths = per_triple = None
    if source.exists():
        lengths, stored = measured(source, 400, 8 if given.quick else 24)
        mean = [sum(column) / len(lengths) for column in zip(*lengths, strict=True)]
        # Every stored entry is a latent that fired, and the sized SAEs are so many times wider.
        wider = get_preset(SIZED).d_out / get_preset("smollm2-135m-instruct").d_out
        per_triple = stored["bytes per triple"] * wider
        report["Real lengths"] = predicted(names, lengths)
        notes += [
            f"UltraFeedback's lengths: {len(lengths)} triples of the fitting split, tokens of the "
            "embedded model; on average prompt {:.0f}, chosen {:.0f}, rejected {:.0f}.".format(
                *mean
            ),
            "Stored counts of the embedded model (two TopK SAEs of 4096 latents): "
            f"{json.dumps({name: round(value) for name, value in stored.items()})}. For {SIZED} "
            f"scaled by {wider:g}, the ratio of the widths.",
        ]
    else:
        notes.append(f"No file {source.name} under DSPA_DATA: no table of real lengths, no bytes.")
    report[f"Sizing on paper: {SIZED} on H100s"] = sizing(lengths, per_triple)
    write("costs", "Costs, counted", report, notes, given.out)


if __name__ == "__main__":
    main()
