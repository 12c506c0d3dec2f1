"""Write the demo's preference triples with the embedded model itself, then clean them.

    python recipes/make_demo_triples.py generate --raw raw.jsonl   # resumes where it stopped
    python recipes/make_demo_triples.py clean --raw raw.jsonl      # writes dspa_nn/assets/

Each prompt of `demo_prompts.jsonl` is answered twice, warmly and formally. Which answer is
preferred depends on the kind of prompt: warm for personal messages, formal for factual questions.
The instructions and worked examples of `demo_styles.json` are seen while generating only; a stored
triple holds the user's message alone. `demo_decoding.py` and `demo_cleaning.py` say how.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import demo_cleaning as cleaning
import demo_decoding as decoding
import torch

from dspa_nn.evaluation import warmth
from dspa_nn.models import model_path

HERE = Path(__file__).parent
ASSETS = HERE.parent / "dspa_nn" / "assets"
STYLES = ("warm", "formal")
ORDERS = 4  # the examples rotate, so that no opening is copied into every answer
BATCH = 28


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def prefixes(styles: dict[str, Any], order: int) -> list[decoding.Chat]:
    """Return what precedes the message in each style: the instruction and four examples.

    They are the same for both kinds of prompt. With different examples for each kind, a
    style would sound different in each, and one global difference that ignores the prompt could
    tell chosen from rejected by that alone.
    """
    examples = styles["examples"]
    shown = examples[order:] + examples[:order]
    chats = []
    for style in STYLES:
        chat = [{"role": "system", "content": styles[style]}]
        for example in shown:
            chat.append({"role": "user", "content": example["user"]})
            chat.append({"role": "assistant", "content": example[style]})
        chats.append(chat)
    return chats


def generate(raw: Path, dtype: str, threads: int) -> None:
    """Answer every prompt that `raw` lacks; one line of `raw` per prompt, appended by batches."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    path = model_path()
    tok = AutoTokenizer.from_pretrained(path, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    contrast = decoding.Contrast(model, tok)
    styles = json.loads((HERE / "demo_styles.json").read_text())
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.touch()
    done = {row["id"] for row in read_lines(raw)}
    prompts = read_lines(HERE / "demo_prompts.jsonl")
    for order in range(ORDERS):
        for kind in ("personal", "factual"):
            todo = [p for p in prompts if p["kind"] == kind and int(p["id"][1:]) % ORDERS == order]
            todo = [p for p in todo if p["id"] not in done]
            for start in range(0, len(todo), BATCH):
                part = todo[start : start + BATCH]
                texts = [p["text"] for p in part]
                torch.manual_seed(int(part[0]["id"][1:]))
                answers = contrast.answer(prefixes(styles, order), texts)
                with raw.open("a") as file:
                    for prompt, pair in zip(part, answers, strict=True):
                        file.write(json.dumps(prompt | dict(zip(STYLES, pair, strict=True))) + "\n")
                print(f"{kind}, order {order}: {len(part)} more", flush=True)


def clean(raw: Path) -> None:
    """Write the triples and their card from `raw`."""
    from transformers import AutoTokenizer

    tok = AutoTokenizer.from_pretrained(model_path())

    def tokens(text: str) -> int:
        return len(tok(text, add_special_tokens=False).input_ids)

    rows = sorted(read_lines(raw), key=lambda row: row["id"])
    triples, dropped = cleaning.clean(rows, tokens)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in triples]
    (ASSETS / "demo_triples.jsonl").write_text("".join(lines))
    tables = figures(triples, dropped, len(rows), tokens)
    card = (HERE / "demo_triples_card.md").read_text()
    settings = {
        name.lower(): getattr(module, name)
        for module in (decoding, cleaning)
        for name in dir(module)
        if name.isupper() and isinstance(getattr(module, name), (int, float))
    }
    low, high = cleaning.RATIO
    card = card.format(tables=tables, ratio_low=low, ratio_high=high, **settings)
    (ASSETS / "demo_triples.md").write_text(card)
    print(tables)


def figures(
    triples: list[cleaning.Row],
    dropped: Counter[str],
    written: int,
    tokens: Callable[[str], int],
) -> str:
    """Return the card's tables: counts, what was dropped, lengths and style scores by kind."""
    counts = Counter((row["split"], row["kind"]) for row in triples)
    out = ["| split | personal | factual |", "|---|---|---|"]
    out += [
        f"| {name} | {counts[name, 'personal']} | {counts[name, 'factual']} |"
        for name in ("fit", "dev", "test")
    ]
    out += ["", f"| of {written} pairs | dropped |", "|---|---|"]
    out += [f"| {reason} | {count} |" for reason, count in dropped.most_common()]
    out += ["", "| mean | tokens chosen | tokens rejected | warmth chosen | warmth rejected |"]
    out += ["|---|---|---|---|---|"]
    for kind in ("personal", "factual", "both"):
        rows = [row for row in triples if kind in ("both", row["kind"])]
        cells = [
            statistics.mean(measure(row[side]) for row in rows)
            for measure in (tokens, warmth)
            for side in ("chosen", "rejected")
        ]
        out.append(f"| {kind} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("step", choices=("generate", "clean"))
    parser.add_argument("--raw", type=Path, required=True, help="JSON Lines of raw answers")
    parser.add_argument("--dtype", default="bfloat16", help="of the model while it writes")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if args.step == "generate":
        generate(args.raw, args.dtype, args.threads)
    else:
        clean(args.raw)


if __name__ == "__main__":
    main()
