"""Dense vectors on the tiny labs of `tests/steer_zoo.py`: ours, and the oracle's."""

from functools import cache
from typing import Any

import torch

from dspa_nn.baselines import Activations, ControlVector, Subject, VectorMethod, activations
from tests import steer_zoo
from tests.oracle import dense
from tests.steer_zoo import STEPS, Lab, Run, padded, prompt_ids, run_of

FAMILIES = (("gemma2", "add"), ("qwen3", "none"), ("llama", "markup"))


@cache
def taken(family: str, bos: Any) -> Activations:
    lab = steer_zoo.lab(family, bos)
    return activations(lab.dspa, lab.triples, progress=False)


def as_ids(lab: Lab) -> list[tuple[list[int], list[int], list[int]]]:
    """(prompt, chosen, rejected) of the lab's triples, without `dspa_nn`."""

    def response(text: str) -> list[int]:
        return lab.tok(text, add_special_tokens=False).input_ids

    return [
        (prompt_ids(lab.tok, lab.bos, own.prompt)[0], response(own.chosen), response(own.rejected))
        for own in lab.triples
    ]


def differences(lab: Lab) -> Any:
    return dense.differences(lab.hf, lab.layers[1], as_ids(lab))


def method(lab: Lab, vector: ControlVector, **changes: Any) -> VectorMethod:
    return VectorMethod("vector", Subject(lab.dspa), vector, **changes)


def by_nnsight(lab: Lab, own: VectorMethod, rows: list[list[int]], **call: Any) -> Run:
    call = {"max_new_tokens": STEPS, "do_sample": False, **call}
    with lab.nn.generate(
        padded(lab, rows), **call, output_logits=True, return_dict_in_generate=True
    ) as tracer:
        log = own.apply()
        result = tracer.result.save()
    return run_of(result, log)


def by_hooks(lab: Lab, own: VectorMethod, rows: list[list[int]], **call: Any) -> Run:
    call = {"max_new_tokens": STEPS, "do_sample": False, **call}
    with own.attach(lab.hf) as log:
        result = lab.hf.generate(
            **padded(lab, rows), **call, output_logits=True, return_dict_in_generate=True
        )
    return run_of(result, log.logs[0])


def by_oracle(
    lab: Lab, own: VectorMethod, rows: list[list[int]], opened: Any = None, **how: Any
) -> list[tuple[list[int], torch.Tensor]]:
    """Each row on its own: ids and logits [steps, vocabulary]."""
    change = own.strength * own.vector.vector
    return [
        dense.generate(
            lab.hf, lab.layers[1], row, change if opened is None or opened[number] else 0 * change,
            STEPS, bos_id=lab.tok.bos_token_id, **how,
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip
