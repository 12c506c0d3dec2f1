"""Time to the first token of a conversation's eighth turn: from what is kept, and from the start.

    python -m benchmarks.conversation [--quick] [--history 500 1500 3000] [--through attach apply]

Six turns are given as text, the seventh is said and answered, and then the eighth is said in both
ways, in turns in one process: by that conversation, whose cache holds all but the last answer and
the new message, and by a new conversation with the same messages, which encodes everything. After
each round the first one goes back to where it was after the seventh turn. A third way is `attach`
around `generate` on the whole prompt. Other work on the machine changes processor time less than it
changes wall time.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks._report import options, write
from benchmarks._steering import Scene
from dspa_nn.models import as_local
from dspa_nn.steering import Conversation
from dspa_nn.triples import read_demo_rows, take_demo_rows

LAST_ANSWER = 150
SEVENTH = "Go on, in more detail."
EIGHTH = "Thank you. And what would you say to someone who asks you the same thing tomorrow?"


class Noted:
    """A logits processor that changes nothing and keeps the logits of the first new token."""

    def __init__(self) -> None:
        self.first: torch.Tensor | None = None

    def __call__(self, _: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Keep the first, return what came."""
        if self.first is None:
            self.first = logits.clone()
        return logits


def history(scene: Scene, tokens: int) -> list[dict[str, str]]:
    """Six turns of text; with a seventh of `LAST_ANSWER` tokens they are about `tokens` long."""
    rows = take_demo_rows(read_demo_rows("register"), "test", None)
    answers = [row.triple.chosen for row in rows]
    each = max(1, (tokens - LAST_ANSWER - 40) // 6)
    messages: list[dict[str, str]] = []
    for turn in range(6):
        (asked,) = [m["content"] for m in rows[turn].triple.messages if m["role"] == "user"][-1:]
        answer, used = "", len(scene.tokenizer(asked).input_ids) + 12
        while used + len(scene.tokenizer(answer).input_ids) < each:
            answer = f"{answer} {answers[len(answer) % len(answers)]}".strip()
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return messages


class Took(NamedTuple):
    """Seconds of the eighth turn with one new token; what was edited, and the token's logits."""

    wall: float
    processor: float
    edits: Any = None
    logits: Any = None


def eighth(conversation: Conversation) -> Took:
    """The turn as a conversation runs it; then the conversation is as it was before."""
    kept: Any = conversation._turns.kept
    before = kept and kept.mark()
    noted = Noted()
    start = time.perf_counter(), time.process_time()
    conversation.say(EIGHTH, max_new_tokens=1, logits_processor=[noted])
    end = time.perf_counter(), time.process_time()
    edits = conversation.edits
    conversation.undo()
    if kept:
        kept.back_to(before)
    return Took(end[0] - start[0], end[1] - start[1], edits, noted.first)


def quartiles(times_a: list[float], times_b: list[float]) -> tuple[float, float, float]:
    """Median of a/b over pairs, and the quartiles."""
    low, median, high = np.quantile(np.divide(times_a, times_b), [0.25, 0.5, 0.75])
    return float(median), float(low), float(high)


def attached(scene: Scene, messages: list[dict[str, str]]) -> Took:
    """The same token of the whole prompt under `attach`, rendered as a user would."""
    start = time.perf_counter(), time.process_time()
    prompt = scene.dspa.render([*messages, {"role": "user", "content": EIGHTH}])
    model, ids = as_local(scene.dspa.model), prompt.ids.unsqueeze(0)
    with scene.dspa.attach(model, scene.map, prompt=prompt):
        mask = torch.ones_like(ids)
        model.generate(ids, attention_mask=mask, max_new_tokens=1, do_sample=False)
    return Took(time.perf_counter() - start[0], time.process_time() - start[1])


def measure(scene: Scene, tokens: int, repeats: int, through: Any) -> dict[str, object]:
    """One row: the two ways and `attach`, in turns, on a history of about `tokens`."""
    took: dict[str, list[Took]] = {"kept": [], "whole": [], "attach": []}
    deviation, same = 0.0, True
    begun: dict[str, Any] = {"through": through, "do_sample": False}
    talk = scene.dspa.conversation(scene.map, messages=history(scene, tokens), **begun)
    talk.say(SEVENTH, max_new_tokens=LAST_ANSWER, min_new_tokens=LAST_ANSWER)
    said = talk.messages
    long = len(scene.dspa.render(said).ids)
    whole_prompt = [*said, {"role": "user", "content": EIGHTH}]
    for turn in range(-1, repeats):
        again = scene.dspa.conversation(scene.map, messages=said, **begun)
        runs: dict[str, Callable[[], Took]] = {
            "kept": partial(eighth, talk),
            "whole": partial(eighth, again),
            "attach": partial(attached, scene, said),
        }
        made = {name: runs[name]() for name in (list(runs) if turn % 2 else list(runs)[::-1])}
        if turn >= 0:
            for name, one in made.items():
                took[name].append(one)
            shown = {name: f"{one.wall:.2f} ({one.processor:.2f})" for name, one in made.items()}
            print(f"{through}, round {turn + 1} of {repeats}: s, of processor", shown, flush=True)
        kept, whole = made["kept"], made["whole"]
        apart = (kept.logits - whole.logits).abs().max() / whole.logits.abs().max()
        deviation = max(deviation, float(apart))
        same = same and kept.edits.plans[0].latents == whole.edits.plans[0].latents
        same = same and int(kept.logits.argmax()) == int(whole.logits.argmax())
    wall = {name: [one.wall for one in times] for name, times in took.items()}
    work = {name: [one.processor for one in times] for name, times in took.items()}
    return {
        "way": through,
        "tokens of history": long,
        "of the prompt": len(scene.dspa.render(whole_prompt).ids),
        "kept, s of processor": float(np.median(work["kept"])),
        "whole, s of processor": float(np.median(work["whole"])),
        "kept / whole, processor": quartiles(work["kept"], work["whole"]),
        "kept / whole, wall": quartiles(wall["kept"], wall["whole"]),
        "kept / attach on the whole, processor": quartiles(work["kept"], work["attach"]),
        "largest deviation of logits": f"{deviation:.1e}",
        "same plans and tokens": same,
    }


def extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--history", nargs="+", type=int, help="tokens of the first seven turns")
    parser.add_argument("--through", nargs="+", default=["attach", "apply"])
    parser.add_argument("--repeats", type=int, help="rounds")


def main() -> None:
    asked = options(__doc__ or "", extend)
    # One token alone may have no planned latent active.
    warnings.filterwarnings("ignore", "nothing was steered")
    scene = Scene(1)
    lengths = asked.history or ([1500] if asked.quick else [500, 1500, 3000])
    repeats = asked.repeats or (2 if asked.quick else 6)
    rows = [
        measure(scene, tokens, repeats, through) for tokens in lengths for through in asked.through
    ]
    notes = [
        f"Medians over {repeats} rounds in turns, ratios pair by pair with their quartiles; the "
        f"seventh answer has {LAST_ANSWER} tokens, and the eighth one token.",
        "Deviation is of the first new token's logits, kept against whole, as a share of the "
        "largest.",
    ]
    write("conversation", "Time to the first token of turn eight", rows, notes, asked.out)


if __name__ == "__main__":
    main()
