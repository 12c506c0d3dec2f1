"""A process that generates with nnterp, run by `peers.py` with the nnsight that nnterp needs.

It reads lines: how many tokens to generate (0: say that it is ready), or "peak", which ends it.
Imports nothing of this repository, which needs another version of nnsight.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from nnterp import StandardizedTransformer  # pyright: ignore[reportMissingImports]


def generate(model: Any, given: dict[str, Any], tokens: int) -> Any:
    settings = given["settings"] | {"max_new_tokens": tokens, "min_new_tokens": tokens}
    inputs = {"input_ids": given["ids"], "attention_mask": torch.ones_like(given["ids"])}
    with model.generate(inputs, **settings) as tracer:
        with tracer.all():
            model.steer(given["layer"], given["vector"])
        ids = tracer.result.save()
    return ids


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    given["ids"], given["vector"] = torch.tensor(given["ids"]), torch.tensor(given["vector"])
    torch.set_num_threads(given["threads"])
    model = StandardizedTransformer(given["model"], dispatch=True, dtype=torch.float32)
    for line in sys.stdin:
        words = line.strip()
        if words == "peak":
            lines = Path("/proc/self/status").read_text().splitlines()
            print(next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM")))
            return
        if words == "0":
            print("ready", flush=True)
            continue
        generate(model, given, int(words))
        print("done", flush=True)


if __name__ == "__main__":
    main()
