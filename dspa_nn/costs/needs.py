"""What a preset takes: memory on a GPU, bytes to download and to send, from shapes alone.

Nothing is loaded or measured: the model is built without weights to count them, and the rest is
arithmetic. What torch reserves beside it, and what other programs hold, comes on top.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from dspa_nn.costs.flops import build
from dspa_nn.counts import TOKEN_BUDGET
from dspa_nn.models import PRESETS, get_preset
from dspa_nn.ndif import predicted

# Arrays as wide as an SAE is, which it holds of each padded token of a pass of `DSPA.count`.
_ARRAYS = 3
# Output latents that the paper's map of Gemma-2-9B can edit.
_COLUMNS = 159


@dataclass(frozen=True)
class PresetNeeds:
    """What one preset takes, in bytes; the model in bfloat16, its SAEs in float32.

    Example:
        >>> needs = preset_needs("gemma-2-9b")
        >>> needs.parameters, round(needs.memory() / 1e9, 1)
        (9241705984, 24.8)

    Attributes:
        preset: its name. parameters: of the model.
        weights: of the model. saes: both encoders and the output SAE's decoder, beside the model.
        cache: keys and values of one token. working: arrays of a pass of `DSPA.count`.
        download: the model's files and those of the SAEs.
        sent: by an `apply` on NDIF, before compression; sent_narrow: with both SAEs in bfloat16.
    """

    preset: str
    parameters: int
    weights: int
    saes: int
    cache: int
    working: int
    download: int
    sent: int
    sent_narrow: int

    def memory(self, rows: int = 8, tokens: int = 2048) -> int:
        """Bytes on a GPU, while `rows` answers of `tokens` tokens (prompt included) are written.

        Example:
            >>> needs = preset_needs("gemma-2-2b")
            >>> needs.memory(rows=1) < needs.memory(rows=8)
            True
        """
        return self.weights + self.saes + max(self.working, rows * tokens * self.cache)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the memory of eight answers included."""
        return {**asdict(self), "memory": self.memory()}


@cache
def preset_needs(name: str) -> PresetNeeds:
    """What a preset takes.

    Example:
        >>> preset_needs("qwen3-8b").parameters
        8190735360

    Raises:
        DSPAError: no such preset.
    """
    preset = get_preset(name)
    config = preset.config
    parameters = sum(one.numel() for one in build(config, lm_head=True).parameters())
    width, both = config.hidden_size, preset.d_in + preset.d_out
    heads = config.num_key_value_heads * config.head_dim
    sent, narrow = (
        sum(
            part.nbytes
            for part in predicted(
                width, preset.d_in, preset.d_out, columns=_COLUMNS, itemsize=itemsize
            )
        )
        for itemsize in (4, 2)
    )
    return PresetNeeds(
        preset=name,
        parameters=parameters,
        weights=2 * parameters,
        saes=4 * width * (both + preset.d_out),
        cache=2 * 2 * config.num_hidden_layers * heads,
        working=_ARRAYS * 4 * TOKEN_BUDGET * max(preset.d_in, preset.d_out),
        download=2 * parameters + 2 * 4 * width * both,
        sent=sent,
        sent_narrow=narrow,
    )


def needs_table(names: Iterable[str] | None = None, *, markdown: bool = False) -> str:
    """Presets side by side: layers, SAEs, memory, download, and what NDIF would be sent.

    Example:
        >>> print(needs_table(["gemma-2-2b"]))
        preset      model              SAEs
        gemma-2-2b  google/gemma-2-2b  jumprelu, 16384 wide
        <BLANKLINE>
        preset      layers  memory  download  sent to NDIF  in bfloat16
        gemma-2-2b  7, 24   7.4 GB  5.8 GB    0.30 GB       0.15 GB

    Two tables, since one would not fit in 80 columns.

    names: of presets; None takes all. markdown: as one table for a page.

    Raises:
        DSPAError: no such preset.
    """
    rows = [
        ["preset", "model", "layers", "SAEs", "memory", "download", "sent to NDIF", "in bfloat16"]
    ]
    for name in PRESETS if names is None else names:
        preset, needs = get_preset(name), preset_needs(name)
        rows.append(
            [
                name,
                preset.model_id,
                f"{preset.input_layer}, {preset.output_layer}",
                f"{preset.sae_type}, {preset.d_in} wide",
                f"{needs.memory() / 1e9:.1f} GB",
                f"{needs.download / 1e9:.1f} GB",
                f"{needs.sent / 1e9:.2f} GB",
                f"{needs.sent_narrow / 1e9:.2f} GB",
            ]
        )
    if markdown:
        head, *body = [f"| {' | '.join(row)} |" for row in rows]
        return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
    return "\n\n".join(_aligned(rows, columns) for columns in ((0, 1, 3), (0, 2, 4, 5, 6, 7)))


def _aligned(rows: list[list[str]], columns: tuple[int, ...]) -> str:
    """Some of the columns, side by side."""
    widths = {column: max(len(row[column]) for row in rows) for column in columns}
    lines = ["  ".join(row[column].ljust(widths[column]) for column in columns) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
