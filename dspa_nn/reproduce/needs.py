"""What a reproduction needs, said before it starts: memory, disk, hours, judge calls, their price.

Estimates on paper, from weights and bytes, at assumptions that are printed with them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dspa_nn.costs import H100_PEAK, UTILISATION, preset_needs
from dspa_nn.errors import EvaluationError
from dspa_nn.models import get_preset
from dspa_nn.reproduce.settings import Settings
from dspa_nn.reproduce.tables import Row

TRIPLES = 61_000
# Mean tokens of prompt, chosen and rejected of UltraFeedback's first 800 rows, by SmolLM2's
# tokenizer; of a judge's request and reply, those of 320 published judgments of MT-Bench.
LENGTHS = (112, 438, 333)
MT_BENCH_TURNS, ALPACA_INSTRUCTIONS = 160, 805
# Sequences of each task, and tokens of one with the paper's number of shots: a guess from the
# lengths of their questions.
CHOICES = {
    "mmlu": (14_042 * 4, 750),
    "arc_easy": (2_376 * 4, 900),
    "truthfulqa_mc2": (817 * 7, 90),
    "hellaswag": (10_042 * 4, 950),
    "winogrande": (1_267 * 2, 180),
}
# Bytes a second of an H100's memory, and the share of it that writing one token at a time reaches.
BANDWIDTH, REACHED = 3.35e12, 0.5
# Seconds that transformers takes to start a decoder block's kernels: a guess, and what bounds the
# answers of all three models.
_BLOCK = 0.8e-3
# Bytes of the counts of one triple: some 8,000 latents that fired, of eight bytes each.
_COUNTS = 64_000


@dataclass(frozen=True)
class Price:
    """Of a judge: US dollars for a million tokens going in and coming out, and tokens of a call."""

    prompt: float | int
    completion: float | int
    tokens_in: int
    tokens_out: int

    def of(self, calls: int) -> float:
        """The price of so many calls.

        >>> Price(2.5, 10.0, 1000, 200).of(1000)
        4.5
        """
        tokens = self.prompt * self.tokens_in + self.completion * self.tokens_out
        return calls * tokens / 1e6


# GPT-4o's list price of 2025, and what AlpacaEval's config says of its Llama-3-70B annotator.
GPT_4O = Price(2.5, 10.0, 800, 200)
LLAMA_70B = Price(0.9, 0.9, 900, 60)


@dataclass(frozen=True)
class Needs:
    """What one reproduction takes.

    Attributes:
        memory, disk: bytes. hours: of one GPU, by step. calls: to a judge, by benchmark.
        dollars: what these cost. assumptions: sentences that all this rests on.
    """

    preset: str
    memory: int
    disk: int
    hours: Mapping[str, float]
    calls: Mapping[str, int]
    dollars: Mapping[str, float]
    assumptions: Sequence[str] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        mappings = {name: dict(getattr(self, name)) for name in ("hours", "calls", "dollars")}
        plain = {"preset": self.preset, "memory": self.memory, "disk": self.disk}
        return plain | mappings | {"assumptions": list(self.assumptions)}

    def __str__(self) -> str:
        hours = ", ".join(f"{step} {value:.1f}" for step, value in self.hours.items())
        calls = ", ".join(
            f"{name} {number:,} (about {self.dollars[name]:,.2f} dollars)"
            for name, number in self.calls.items()
        )
        lines = [
            f"Reproducing {self.preset} needs, by estimate:",
            f"  GPU memory  {self.memory / 1e9:.0f} GB",
            f"  disk        {self.disk / 1e9:.0f} GB",
            f"  GPU hours   {sum(self.hours.values()):.1f} ({hours or 'none'})",
            f"  judge calls {calls or 'none'}",
            "This assumes:",
            *(f"  - {line}" for line in self.assumptions),
        ]
        return "\n".join(lines)


def reproduction_needs(
    preset: str,
    rows: Sequence[Row],
    steps: Sequence[str],
    settings: Settings | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Needs:
    """What reproducing some rows of the paper's tables takes.

    Example:
        >>> print(reproduction_needs("gemma-2-2b", [Row("main", "Base")], ["mt-bench"]))
        Reproducing gemma-2-2b needs, by estimate:
          GPU memory  7 GB
          ...
          judge calls MT-Bench 160 (about 0.64 dollars)
          ...

    Raises:
        EvaluationError: no rows.
    """
    if not rows:
        raise EvaluationError("no rows came; name at least one, or leave --row out for all")
    given = settings or Settings()
    asked = {"MT-Bench": GPT_4O, "AlpacaEval": LLAMA_70B} | dict(prices or {})
    shape, bytes_of = get_preset(preset), preset_needs(preset)
    triples = min(TRIPLES, given.triples or TRIPLES)
    turns = 2 * min(MT_BENCH_TURNS // 2, given.questions or MT_BENCH_TURNS)
    instructions = min(ALPACA_INSTRUCTIONS, given.questions or ALPACA_INSTRUCTIONS)
    step_seconds = max(
        bytes_of.weights / (BANDWIDTH * REACHED), shape.architecture.num_hidden_layers * _BLOCK
    )
    hours: dict[str, float] = {}
    if "maps" in steps:
        prompt, *both = LENGTHS
        hours["counting"] = triples * _hours(_flops(preset, prompt + sum(both), shape.output_layer))
        if Row("main", "RepE") in rows:
            twice = 2 * prompt + sum(both)
            hours["RepE"] = triples * _hours(_flops(preset, twice, shape.output_layer))
    if "mt-bench" in steps:
        hours["MT-Bench"] = len(rows) * turns * given.max_new_tokens * step_seconds / 3600
    if "alpaca-eval" in steps:
        batches = -(-instructions // given.batch_size)
        hours["AlpacaEval"] = len(rows) * batches * given.max_new_tokens * step_seconds / 3600
    if "multiple-choice" in steps:
        hours["multiple choice"] = len(rows) * _choice_hours(preset, given.questions)
    calls = {
        name: number * len(rows)
        for step, name, number in (
            ("mt-bench", "MT-Bench", turns),
            ("alpaca-eval", "AlpacaEval", instructions),
        )
        if step in steps
    }
    return Needs(
        preset=preset,
        memory=bytes_of.memory(rows=given.batch_size),
        disk=bytes_of.download + triples * _COUNTS + 2_000_000_000,
        hours=hours,
        calls=calls,
        dollars={name: asked[name].of(number) for name, number in calls.items()},
        assumptions=_assumptions(given, triples, asked),
    )


def _choice_hours(preset: str, questions: int | None) -> float:
    flops = 0.0
    for sequences, tokens in CHOICES.values():
        share = 1.0 if questions is None else min(1.0, questions * 4 / sequences)
        flops += share * sequences * _flops(preset, tokens, None)
    return _hours(flops)


def _flops(preset: str, tokens: int, last: int | None) -> float:
    """Two for each weight and token: blocks up to the last one and both SAEs, or all and the head.

    What attention multiplies is left out: a few per cent at these lengths.
    """
    shape, sizes = get_preset(preset), get_preset(preset).architecture
    head = sizes.vocab_size * sizes.hidden_size
    blocks = preset_needs(preset).parameters - head * (1 if sizes.tie_word_embeddings else 2)
    if last is None:
        return 2.0 * tokens * (blocks + head)
    saes = sizes.hidden_size * (shape.d_in + shape.d_out)
    return 2.0 * tokens * (blocks * (last + 1) / sizes.num_hidden_layers + saes)


def _hours(flops: float) -> float:
    return flops / (H100_PEAK * UTILISATION) / 3600


def _assumptions(settings: Settings, triples: int, prices: Mapping[str, Price]) -> list[str]:
    told = [
        f"one H100: two FLOPs for a weight and a token, at {UTILISATION:.0%} of its "
        f"{H100_PEAK / 1e12:.0f} TFLOP/s where tokens are read, {REACHED:.0%} of its "
        f"{BANDWIDTH / 1e12:.2f} TB/s where they are written, and there at least {_BLOCK * 1e3:g} "
        "ms a decoder block",
        f"{triples:,} triples of {' + '.join(map(str, LENGTHS))} tokens (prompt, chosen, rejected)",
        f"answers as long as they may be, {settings.max_new_tokens} tokens; MT-Bench one at a "
        f"time, AlpacaEval {settings.batch_size} at once",
        "multiple choice with the paper's shots, "
        + ", ".join(f"{name} {tokens}" for name, (_, tokens) in CHOICES.items())
        + " tokens a sequence",
        "the model in bfloat16, its SAEs in float32; training (DPO, RAHF-SCIT, the paper's fine-"
        "tuned bases and SAEs) is not in it: dspa bench counts that",
    ]
    told += [
        f"a judge of {name} at {price.prompt:g} and {price.completion:g} dollars for a million "
        f"tokens in and out, {price.tokens_in} and {price.tokens_out} of them a call: ask yours"
        for name, price in prices.items()
    ]
    return told


def shortfalls(needs: Needs, memory: int | None, disk: int) -> list[str]:
    """What this machine lacks, a sentence each.

    Example:
        >>> needs = reproduction_needs("gemma-2-2b", [Row("main", "Base")], ["mt-bench"])
        >>> shortfalls(needs, None, 10**12)
        ['there is no GPU here, and 7 GB of its memory are needed']

    memory: bytes of the GPU, None where there is none. disk: free bytes.
    """
    found: list[str] = []
    if memory is None:
        found.append(
            f"there is no GPU here, and {needs.memory / 1e9:.0f} GB of its memory are needed"
        )
    elif memory < needs.memory:
        found.append(
            f"the GPU has {memory / 1e9:.0f} GB of memory, and {needs.memory / 1e9:.0f} are needed"
        )
    if disk < needs.disk:
        found.append(f"{disk / 1e9:.0f} GB of disk are free, and {needs.disk / 1e9:.0f} are needed")
    return found
