"""What batching and steering do to the throughput of `dspa serve`, over HTTP.

    python -m benchmarks.serve_speed --map FOLDER [--tokens 48] [--at-once 8] [--repeats 5]

One server, asked in turns: requests one at a time and all at once, steered, and all at once
unsteered; the figures are ratios of paired turns. Every answer runs to its whole length, or the
run stops: an answer that ends early would make a batch look slower.
"""

import argparse
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from benchmarks._report import options, ratio, run_interleaved, write
from dspa_nn import DSPA, ConditionalDifferenceMap
from dspa_nn.serving import Engine, make_server

PRESET = "smollm2-135m-instruct"


def start(engine: Engine) -> str:
    """Serve an engine on a free port from a thread; return the base URL."""
    server = make_server(engine, port=0)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/v1"


def ask(client: Any, model: str, tokens: int, alpha: float | None, prompt: str) -> int:
    """One request; return the tokens of its answer."""
    settings = {} if model == "unsteered" or alpha is None else {"alpha": alpha}
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=tokens,
        temperature=0,
        extra_body=settings,
    )
    if answer.usage.completion_tokens != tokens:
        raise SystemExit(f"an answer ended after {answer.usage.completion_tokens} tokens: {prompt}")
    return answer.usage.completion_tokens


def turn(client: Any, model: str, at_once: int, given: Any, prompts: list[str]) -> None:
    """Ask all prompts, so many at once."""
    one = partial(ask, client, model, given.tokens, given.alpha)
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, prompts))


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--map", required=True, metavar="FOLDER")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--alpha", type=float, help="the map's own, where it is left out")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cpu-seconds", action="store_true", help="count the process's seconds")


def main() -> None:
    import openai

    given = options(str(__doc__), extend)
    dspa = DSPA.from_preset(PRESET)
    maps = {"steered": ConditionalDifferenceMap.load(given.map)}
    engine = Engine(dspa, maps, batch_size=given.at_once)
    client = openai.OpenAI(base_url=start(engine), api_key="none", max_retries=0, timeout=600)
    prompts = [f"Write a long story about {topic}." for topic in TOPICS[: given.at_once]]
    contenders = {
        "one at a time": partial(turn, client, "steered", 1, given, prompts),
        "at once": partial(turn, client, "steered", given.at_once, given, prompts),
        "at once, unsteered": partial(turn, client, "unsteered", given.at_once, given, prompts),
    }
    clock = time.process_time if given.cpu_seconds else time.perf_counter
    seconds = run_interleaved(contenders, 2 if given.quick else given.repeats, clock=clock)
    engine.close()
    made = len(prompts) * given.tokens
    rows = [
        {
            "contender": name,
            "threads": torch.get_num_threads(),
            "tokens/s": made * len(own) / sum(own),
            "speed over one at a time": ratio(seconds["one at a time"], own),
            "speed over unsteered at once": ratio(seconds["at once, unsteered"], own),
        }
        for name, own in seconds.items()
    ]
    notes = [
        f"{len(prompts)} prompts, {given.tokens} tokens each, greedy; "
        f"{'processor' if given.cpu_seconds else 'wall clock'} seconds, {len(seconds['at once'])} "
        "turns of each contender"
    ]
    write("serve_speed", "Throughput of dspa serve", rows, notes, given.out)


TOPICS = (
    "a lighthouse", "two brothers", "the last train", "a winter garden", "an old map",
    "a river town", "a lost dog", "the night sky", "a clockmaker", "three islands",
    "a stubborn mule", "the first snow", "a paper boat", "a silent bell", "a broken bridge",
    "a market day",
)  # fmt: skip


if __name__ == "__main__":
    main()
