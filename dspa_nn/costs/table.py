"""All costs of one model side by side: ways to count the triples, DPO, RAHF-SCIT, the account."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dspa_nn.costs.account import account_dspa, account_rahf
from dspa_nn.costs.fit import fit_flops
from dspa_nn.costs.flops import build, text_config
from dspa_nn.costs.lengths import Lengths
from dspa_nn.costs.training import dpo_flops, rahf_flops
from dspa_nn.errors import DSPAError
from dspa_nn.models import get_preset


@dataclass(frozen=True)
class CostRow:
    """One way to align: mean FLOPs per triple, as a multiple of `DSPA.count`'s, and their source.

    Example:
        >>> preset_costs("smollm2-135m-instruct")["DPO"].known
        'counted'

    Attributes:
        way: what is run. flops: per triple. ratio: to `DSPA.count`'s.
            known: "counted" or "account".
    """

    way: str
    flops: float
    ratio: float
    known: str


@dataclass(frozen=True)
class CostTable:
    """What aligning one model costs, way by way; `print` lays it out.

    Example:
        >>> table = cost_table(model.config, [(20, 30, 30)], input_layer=1, output_layer=2,
        ...                    d_in=48, d_out=40)
        >>> table["DPO"].flops > table["RAHF-SCIT step 2"].flops
        True
        >>> print(table)
        CostTable: llama, ... B parameters, SAEs of 48 and 40 latents at layers 1 and 2
        ...

    Attributes:
        model: its name. parameters: how many, counted. input_layer, output_layer: that the SAEs
            read. d_in, d_out: their widths. triples: how many were asked for.
        prompt, chosen, rejected: mean lengths, in tokens.
        rows: the ways; the first one is `DSPA.count`'s, which the ratios refer to.
    """

    model: str
    parameters: int
    input_layer: int
    output_layer: int
    d_in: int
    d_out: int
    triples: int
    prompt: float
    chosen: float
    rejected: float
    rows: tuple[CostRow, ...]

    def __getitem__(self, way: str) -> CostRow:
        for row in self.rows:
            if row.way == way:
                return row
        ways = ", ".join(repr(row.way) for row in self.rows)
        raise DSPAError(f"there is no row {way!r}; the rows are {ways}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        longest = max(len(row.way) for row in self.rows)
        head = (
            f"CostTable: {self.model}, {self.parameters / 1e9:.4g} B parameters, SAEs of "
            f"{self.d_in} and {self.d_out} latents at layers {self.input_layer} and "
            f"{self.output_layer}\n{self.triples} triple(s), mean tokens: prompt {self.prompt:.5g},"
            f" chosen {self.chosen:.5g}, rejected {self.rejected:.5g}\n"
            f"  {'':<{longest}}  TFLOP per triple  ratio"
        )
        lines = [
            f"  {row.way:<{longest}}  {row.flops / 1e12:>16.4g}  {row.ratio:>5.3g}  {row.known}"
            for row in self.rows
        ]
        return "\n".join([head, *lines])


def cost_table(
    config: Any,
    lengths: Lengths,
    *,
    input_layer: int,
    output_layer: int,
    d_in: int,
    d_out: int,
    name: str | None = None,
    last_target: int | None = None,
) -> CostTable:
    """Count every way to align one model on triples of these lengths.

    Example:
        >>> table = cost_table(model.config, [(20, 30, 30)], input_layer=1, output_layer=2,
        ...                    d_in=48, d_out=40)
        >>> table.rows[0].ratio
        1.0

    Args:
        config: a `transformers` config of a decoder-only model; no weights are needed.
        lengths: (prompt, chosen, rejected) of each triple, in tokens.
        input_layer: see `fit_flops`, also for the next three.
        output_layer: decoder block that the output SAE reads.
        d_in: latents of the input SAE.
        d_out: latents of the output SAE.
        name: of the model, for the heading.
        last_target: see `rahf_flops`.

    The rows "account" multiply parameters by tokens as the paper does, with the number of
    parameters of this model.

    Raises:
        DSPAError: layers or lengths out of range, or a model that cannot be counted without data.
    """
    triples = [tuple(triple) for triple in lengths]
    where: dict[str, Any] = {
        "input_layer": input_layer,
        "output_layer": output_layer,
        "d_in": d_in,
        "d_out": d_out,
    }
    once, pairs, plain = (
        fit_flops(config, triples, plan=plan, **where) for plan in ("once", "pairs", "plain")
    )
    parameters = sum(p.numel() for p in build(config, lm_head=True).parameters())
    prompt, chosen, rejected = (sum(column) / len(triples) for column in zip(*triples, strict=True))
    step_1, step_2 = rahf_flops(config, triples, last_target=last_target)
    counted = {
        "DSPA.count: prompt once, to the output layer": once.per_triple,
        "prompt with each response, to the output layer": pairs.per_triple,
        "plain: three passes, all blocks, LM head": plain.per_triple,
        "DPO": dpo_flops(config, triples).per_triple,
        "RAHF-SCIT": step_1.per_triple + step_2.per_triple,
        "RAHF-SCIT step 1": step_1.per_triple,
        "RAHF-SCIT step 2": step_2.per_triple,
    }
    account = {
        "DSPA, account": account_dspa(parameters, prompt, chosen, rejected),
        "RAHF-SCIT, account": account_rahf(parameters),
    }
    rows = [
        CostRow(way, flops, flops / once.per_triple, known)
        for known, ways in (("counted", counted), ("account", account))
        for way, flops in ways.items()
    ]
    return CostTable(
        model=name or text_config(config).model_type,
        parameters=parameters,
        **where,
        triples=len(triples),
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        rows=tuple(rows),
    )


def preset_costs(
    preset: str, lengths: Sequence[Sequence[int]] = ((1000, 1000, 1000),)
) -> CostTable:
    """The cost table of a preset's model, layers and SAEs, without loading any of them.

    Example:
        >>> costs = preset_costs("smollm2-135m-instruct")
        >>> costs.input_layer, costs.d_in, costs["DPO"].ratio > 1
        (9, 4096, True)

    Args:
        preset: its name.
        lengths: (prompt, chosen, rejected) of each triple, in tokens; 1000 each by default.

    Raises:
        DSPAError: no such preset, or lengths out of range.
    """
    shape = get_preset(preset)
    return cost_table(
        shape.config,
        lengths,
        input_layer=shape.input_layer,
        output_layer=shape.output_layer,
        d_in=shape.d_in,
        d_out=shape.d_out,
        name=preset,
        last_target=shape.rahf_last_target,
    )
