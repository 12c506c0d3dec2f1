"""Time to the first token of a conversation's eighth turn: from what is kept, and from the start.

    python -m benchmarks.conversation [--quick] [--history 500 1500 3000] [--through attach apply]

Six turns are given as text, the seventh is said and answered, and then the eighth is said in both
ways, in turns in one process: by that conversation, whose cache holds all but the last answer and
the new message, and by a new conversation with the same messages, which encodes everything. A third
way is `attach` around `generate` on the whole prompt.
"""

import argparse
import time
import warnings
from typing import Any

import torch

from benchmarks._report import options, ratio, write
from benchmarks._steering import Scene
from dspa_nn.models import as_local
from dspa_nn.steering import Conversation
from dspa_nn.triples import read_demo_rows, take_demo_rows

LAST_ANSWER = 150
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


def eighth(conversation: Conversation) -> tuple[float, Any, Noted]:
    """Seconds of the eighth turn with one new token, its edits, and the token's logits."""
    noted = Noted()
    start = time.perf_counter()
    conversation.say(EIGHTH, max_new_tokens=1, logits_processor=[noted])
    return time.perf_counter() - start, conversation.edits, noted


def attached(scene: Scene, messages: list[dict[str, str]]) -> float:
    """Seconds of one new token of the whole prompt under `attach`, rendered as a user would."""
    start = time.perf_counter()
    prompt = scene.dspa.render([*messages, {"role": "user", "content": EIGHTH}])
    model, ids = as_local(scene.dspa.model), prompt.ids.unsqueeze(0)
    with scene.dspa.attach(model, scene.map, prompt=prompt):
        mask = torch.ones_like(ids)
        model.generate(ids, attention_mask=mask, max_new_tokens=1, do_sample=False)
    return time.perf_counter() - start


def measure(scene: Scene, tokens: int, repeats: int, through: Any) -> dict[str, object]:
    """One row: the two ways and `attach`, in turns, on a history of about `tokens`."""
    seconds: dict[str, list[float]] = {"kept": [], "whole": [], "attach": []}
    deviation, plans, long = 0.0, True, 0
    for turn in range(-1, repeats):
        begun = {"through": through, "do_sample": False}
        talk = scene.dspa.conversation(scene.map, messages=history(scene, tokens), **begun)
        talk.say("Go on, in more detail.", max_new_tokens=LAST_ANSWER, min_new_tokens=LAST_ANSWER)
        said = talk.messages
        again = scene.dspa.conversation(scene.map, messages=said, **begun)
        long = len(scene.dspa.render(said).ids)
        runs = {
            "kept": lambda talk=talk: eighth(talk),
            "whole": lambda again=again: eighth(again),
            "attach": lambda said=said: (attached(scene, said), None, None),
        }
        made = {}
        for name in list(runs) if turn % 2 else list(runs)[::-1]:
            made[name] = runs[name]()
            if turn >= 0:
                seconds[name].append(made[name][0])
        (_, one, kept), (_, other, whole) = made["kept"], made["whole"]
        apart = (kept.first - whole.first).abs().max() / whole.first.abs().max()
        deviation = max(deviation, float(apart))
        plans = plans and one.plans[0].latents == other.plans[0].latents
        plans = plans and int(kept.first.argmax()) == int(whole.first.argmax())
    middle = {name: sorted(times)[len(times) // 2] for name, times in seconds.items()}
    return {
        "way": through,
        "tokens of history": long,
        "kept, s": middle["kept"],
        "whole, s": middle["whole"],
        "kept / whole": ratio(seconds["kept"], seconds["whole"]),
        "kept / attach on the whole": ratio(seconds["kept"], seconds["attach"]),
        "largest deviation of logits": f"{deviation:.1e}",
        "same plans and tokens": plans,
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
        f"Seconds are medians over {repeats} conversations, ratios of pairs with 95 % intervals; "
        f"the seventh answer has {LAST_ANSWER} tokens, and the eighth one token.",
        "Deviation is of the first new token's logits, kept against whole, as a share of the "
        "largest.",
    ]
    write("conversation", "Time to the first token of turn eight", rows, notes, asked.out)


if __name__ == "__main__":
    main()
