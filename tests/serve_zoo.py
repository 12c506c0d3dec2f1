"""A tiny server on a free port of this machine, for tests that speak to it over HTTP."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dspa_nn import DSPA
from dspa_nn.serving import Engine, make_server
from tests import steer_zoo, tiny


def maps(lab: steer_zoo.Lab) -> dict[str, Any]:
    """Three maps of one lab, a sum among them."""
    return {
        "warm": lab.map,
        "cold": lab.map.restrict(columns=list(range(0, 40, 2))),
        "both": lab.map + 0.5 * lab.map.restrict(columns=[1, 3, 5]),
    }


def tiny_dspa() -> DSPA:
    """A tiny llama that can be built by any process, without a map."""
    model, tok = tiny.model("llama"), tiny.tokenizer("add")
    input_sae, output_sae = tiny.saes(model, "topk")
    return DSPA(
        tiny.nnsight_model(model, tok), input_sae=input_sae, output_sae=output_sae,
        input_layer=tiny.LAYER_IN, output_layer=tiny.LAYER_OUT,
    )  # fmt: skip


def engine(bos: str = "add", **options: Any) -> Engine:
    """An engine on a tiny llama, which has no end of turn."""
    lab = steer_zoo.lab("llama", bos)
    return Engine(lab.dspa, maps(lab), **options)


@contextmanager
def running(engine: Engine) -> Iterator[str]:
    """The base URL of a server of the engine, in a thread."""
    server = make_server(engine, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.should_exit = True
        engine.close()
        thread.join(10)


def requests(count: int, names: list[str], seed: int = 0) -> list[dict[str, Any]]:
    """Random requests: maps, settings, temperatures, seeds and lengths."""
    draw = random.Random(seed)
    words = "sun moon red blue cat dog tea sea oak elm fog ice run sit one two".split()
    found: list[dict[str, Any]] = []
    for index in range(count):
        text = " ".join(draw.choices(words, k=draw.randint(1, 12)))
        own: dict[str, Any] = {
            "model": draw.choice(names),
            "messages": [{"role": "user", "content": text}],
            "max_tokens": draw.randint(2, 12),
            "temperature": draw.choice([0, 0.7, 1.0]),
            "seed": index,
        }
        if own["temperature"]:
            own["top_p"] = draw.choice([1.0, 0.8])
        if own["model"] != "unsteered":
            own |= {
                "alpha": draw.choice([0.2, 0.5, 1.0]),
                "mode": draw.choice(["ablate", "augment", "both"]),
                "prompt_rule": draw.choice(["density", "gated", "centred"]),
                "k_diff": draw.choice([2, 6]),
            }
        if draw.random() < 0.3:
            own["stop"] = [draw.choice("abcdefgh")]
        found.append(own)
    return found
