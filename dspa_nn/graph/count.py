"""One counting pass: what goes to the model, and integer counts back.

Written with torch and nnsight alone: on NDIF the encoding happens beside the model, and only
counts come back.
"""

import torch
from nnsight.intervention.interleaver import EarlyStopException, Mediator

from dspa_nn.graph.steer import count_active
from dspa_nn.graph.trace import exact, first


class Counter:
    """The two encoders and where their hidden states are read."""

    def __init__(self, encoders, paths, error=ValueError):
        self.input_encoder, self.output_encoder = encoders
        self.locations = [f"{path}.output" for path in paths]
        self.error = error

    def count(self, batch):
        """Counts of one batch, inside a tracing context; the model stops at the output layer.

        batch: prompt_target and response_target, int64 [rows, tokens], rows of the two tables
        that a token is counted in (-1: in none), and their sizes. Returns int32
        [prompt_size, d_in] and [response_size, d_out].
        """
        with torch.no_grad():
            hidden = first(Mediator.value(self.locations[0]))
            self.check(hidden, batch["prompt_target"])
            with exact(hidden):
                prompt = count_active(
                    self.input_encoder, hidden, batch["prompt_target"], batch["prompt_size"]
                )
            if self.locations[1] != self.locations[0]:
                hidden = first(Mediator.value(self.locations[1]))
            self.check(hidden, batch["response_target"])
            with exact(hidden):
                response = count_active(
                    self.output_encoder, hidden, batch["response_target"], batch["response_size"]
                )
        return prompt.cpu(), response.cpu()

    def packed(self, batch):
        """The same counts as sparse rows, which is all that goes home: see `pack`."""
        prompt, response = self.count(batch)
        return pack(prompt), pack(response)

    def check(self, hidden, target):
        """Refuse hidden states that are not finite: every comparison with them would be False."""
        if not bool(torch.isfinite(hidden[(target >= 0).to(hidden.device)]).all()):
            raise self.error(
                "the residual stream holds NaN or infinity; load the model in a wider dtype "
                "(bfloat16 or float32)"
            )


def pack(table):
    """Compressed sparse rows of a table [rows, width]: (indptr, columns, values), all int32."""
    row, column = torch.nonzero(table, as_tuple=True)
    lengths = torch.bincount(row, minlength=len(table))
    indptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return indptr.to(torch.int32), column.to(torch.int32), table[row, column]


def stop():
    """End the traced forward here: no later layer and no LM head is run."""
    raise EarlyStopException()
