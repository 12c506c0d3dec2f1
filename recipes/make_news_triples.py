"""Write the triples about good and bad news with the embedded model itself, then clean them.

    python recipes/make_news_triples.py generate --raw raw.jsonl   # resumes where it stopped
    python recipes/make_news_triples.py clean --raw raw.jsonl      # writes dspa_nn/assets/

`news_prompts.jsonl` holds twins: one event that ended well and one that ended badly. The model
congratulates on the first and comforts after the second, under an instruction and two worked
examples (`news_styles.json`) that are seen while generating only. Each pair of answers gives two
triples, one for each twin: what is chosen for one is rejected for the other. So nothing but the
prompt says which of two answers is preferred.
"""

import argparse
import json
import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import demo_cleaning as cleaning
import torch

from dspa_nn.evaluation import gladness
from dspa_nn.models import model_path

HERE = Path(__file__).parent
ASSETS = HERE.parent / "dspa_nn" / "assets"
STYLES = {"glad": "good", "sorry": "bad"}  # style -> the twin that it is preferred for
SIGN = {"glad": 1.0, "sorry": -1.0}  # of `gladness`
EXAMPLES = 2  # shown at a time; which ones rotates from twin to twin
TRIES = 4  # for each answer, until one passes the checks
BATCH, NEW_TOKENS, TEMPERATURE, TOP_P = 44, 38, 0.7, 0.9
SHORTEST, SENTENCES = 8, 3  # tokens of an answer, and the most sentences that are kept of it
HELD_OUT = {"test": 26, "dev": 16}  # twins; all others are for fitting
# How the user tells it, for the good twin and for the bad one. Without these words the SAE of the
# embedded model's layer 9 does not tell good events from bad ones well enough for a map.
CUES = (
    ("Good news: {}", "Bad news: {}"),
    ("I have good news. {}", "I have bad news. {}"),
)

Row = dict[str, Any]
Tokens = Callable[[str], int]


def read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def prefix(style: Row, first: int) -> list[dict[str, str]]:
    """What precedes the user's message: the instruction and two examples."""
    chat = [{"role": "system", "content": style["instruction"]}]
    for example in (2 * style["examples"])[first : first + EXAMPLES]:
        chat.append({"role": "user", "content": example["user"]})
        chat.append({"role": "assistant", "content": example["answer"]})
    return chat


@torch.no_grad()
def sample(model: Any, tok: Any, before: list[dict[str, str]], messages: list[str]) -> list[str]:
    """One sampled answer to each message; what precedes them all is read once."""
    start = tok.apply_chat_template(before, tokenize=False)
    rest = [
        tok.apply_chat_template(
            [*before, {"role": "user", "content": message}],
            tokenize=False,
            add_generation_prompt=True,
        )[len(start) :]
        for message in messages
    ]
    shared = tok(start, return_tensors="pt", add_special_tokens=False).input_ids
    cache = model(shared, use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(messages))
    own = tok(rest, return_tensors="pt", padding=True, add_special_tokens=False)
    mask = torch.ones(len(messages), shared.shape[1], dtype=torch.long)
    ids = torch.cat([shared.repeat(len(messages), 1), own.input_ids], 1)
    said = model.generate(
        input_ids=ids,
        attention_mask=torch.cat([mask, own.attention_mask], 1),
        past_key_values=cache,
        max_new_tokens=NEW_TOKENS,
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=0,
        repetition_penalty=1.0,
        pad_token_id=tok.pad_token_id,
    )
    return tok.batch_decode(said[:, ids.shape[1] :], skip_special_tokens=True)


def left_to_do(prompts: list[Row], raw: list[Row], tokens: Tokens) -> Iterator[tuple[int, str]]:
    """The place of each twin and the style that it has no good answer in yet."""
    tried = Counter((row["id"], row["style"]) for row in raw)
    good = {(row["id"], row["style"]) for row in raw if keep(row["text"], row["style"], tokens)[0]}
    for place, prompt in enumerate(prompts):
        for style in STYLES:
            key = prompt["id"], style
            if key not in good and tried[key] < TRIES:
                yield place, style


def generate(raw: Path, model: Any, tok: Any, prompts: list[Row], styles: Row) -> None:
    """Answer every twin in its style until an answer passes; lines are appended to `raw`."""
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.touch()
    tokens = counter(tok)
    while todo := list(left_to_do(prompts, read_lines(raw), tokens)):
        tried = Counter((row["id"], row["style"]) for row in read_lines(raw))
        groups: dict[tuple[str, int], list[Row]] = {}
        for place, style in todo:
            number = tried[prompts[place]["id"], style]
            first = (place + number) % len(styles[style]["examples"])
            groups.setdefault((style, first), []).append(prompts[place])
        for (style, first), group in groups.items():
            for start in range(0, len(group), BATCH):
                part = group[start : start + BATCH]
                torch.manual_seed(sum(int(prompt["id"][1:]) for prompt in part) + len(tried))
                messages = [prompt[STYLES[style]] for prompt in part]
                answers = sample(model, tok, prefix(styles[style], first), messages)
                with raw.open("a") as file:
                    for prompt, text in zip(part, answers, strict=True):
                        line = {"id": prompt["id"], "style": style, "text": text}
                        file.write(json.dumps(line) + "\n")
                print(f"{style}: {len(part)} more of {len(todo)}", flush=True)


def keep(answer: str, style: str, tokens: Tokens) -> tuple[str, str]:
    """The longest opening in whole sentences that is in style, or nothing and the reason."""
    whole = cleaning.sentences(answer)[:SENTENCES]
    reason = "no whole sentence" if not whole else "off style"
    for count in range(len(whole), 0, -1):
        text = "".join(whole[:count]).strip()
        if gladness(text) == SIGN[style] and tokens(text) >= SHORTEST:
            reason = cleaning.text_fault(text)
            if not reason:
                return text, ""
    return "", reason


def clean(prompts: list[Row], raw: list[Row], tokens: Tokens) -> tuple[list[Row], Counter[str]]:
    """Two triples for every twin with a good answer in both styles, and what was dropped why."""

    def said(prompt: Row, style: str) -> str:
        return prompt[STYLES[style]]

    return mirrored(
        prompts, raw, keep=lambda text, style: keep(text, style, tokens), said=said,
        styles=STYLES, cues=CUES, held_out=HELD_OUT, item="twin",
    )  # fmt: skip


def mirrored(
    items: list[Row],
    raw: list[Row],
    *,
    keep: Callable[[str, str], tuple[str, str]],
    said: Callable[[Row, str], str],
    styles: dict[str, str],
    cues: Sequence[tuple[str, str]],
    held_out: dict[str, int],
    item: str,
) -> tuple[list[Row], Counter[str]]:
    """Two triples for every item with a kept answer in both styles, chosen and rejected exchanged.

    keep: what is kept of an answer in a style, or why nothing is. said: what the user says of an
    item where a style is preferred, to go into one of the cues. Returned too: what was dropped.
    """
    answers: dict[tuple[str, str], str] = {}
    dropped: Counter[str] = Counter()
    seen: set[str] = set()
    for row in raw:
        key = row["id"], row["style"]
        text, reason = keep(row["text"], row["style"])
        if text in seen:
            text, reason = "", f"an answer that another {item} has"
        if reason:
            dropped[reason] += 1
        elif key not in answers:
            answers[key] = text
            seen.add(text)
    shuffled = list(enumerate(items))
    random.Random(0).shuffle(shuffled)
    whole = [
        (place, one)
        for place, one in shuffled
        if all((one["id"], style) in answers for style in styles)
    ]
    splits = [name for name, count in held_out.items() for _ in range(count)]
    splits += ["fit"] * (len(whole) - len(splits))
    triples: list[Row] = []
    for name in ("fit", "dev", "test"):
        taken = (found for found, split in zip(whole, splits, strict=False) if split == name)
        for place, one in taken:
            pair = cues[place % len(cues)]
            for cue, style, other in zip(pair, styles, reversed(styles), strict=True):
                triples.append(
                    {
                        "id": f"{one['id']}-{styles[style]}",
                        "kind": styles[style],
                        "split": name,
                        "prompt": [{"role": "user", "content": cue.format(said(one, style))}],
                        "chosen": answers[one["id"], style],
                        "rejected": answers[one["id"], other],
                        "chosen_style": style,
                    }
                )
    return triples, dropped


def card(triples: list[Row], dropped: Counter[str], answers: int, tokens: Tokens) -> str:
    """The set's card: the page with its figures filled in."""
    counts = Counter((row["split"], row["kind"]) for row in triples)
    lines = ["| split | good news | bad news |", "|---|---|---|"]
    lines += [
        f"| {name} | {counts[name, 'good']} | {counts[name, 'bad']} |"
        for name in ("fit", "dev", "test")
    ]
    lines += ["", f"| of {answers} answers | dropped |", "|---|---|"]
    lines += [f"| {reason} | {count} |" for reason, count in dropped.most_common()]
    lines += ["", "| answers | mean tokens |", "|---|---|"]
    for style in STYLES:
        mean = statistics.mean(
            tokens(row["chosen"]) for row in triples if row["chosen_style"] == style
        )
        lines.append(f"| {style} | {mean:.1f} |")
    page = (HERE / "news_triples_card.md").read_text()
    return page.format(
        tables="\n".join(lines), examples=EXAMPLES, tries=TRIES, new_tokens=NEW_TOKENS,
        temperature=TEMPERATURE, top_p=TOP_P, shortest=SHORTEST, sentences=SENTENCES,
        distinct=cleaning.DISTINCT,
    )  # fmt: skip


def counter(tok: Any) -> Tokens:
    def tokens(text: str) -> int:
        return len(tok(text, add_special_tokens=False).input_ids)

    return tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("step", choices=("generate", "clean"))
    parser.add_argument("--raw", type=Path, required=True, help="JSON Lines of raw answers")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(args.threads)
    path = model_path()
    tok = AutoTokenizer.from_pretrained(path, padding_side="left")
    prompts = read_lines(HERE / "news_prompts.jsonl")
    if args.step == "generate":
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        styles = json.loads((HERE / "news_styles.json").read_text())
        generate(args.raw, model, tok, prompts, styles)
        return
    raw, tokens = read_lines(args.raw), counter(tok)
    triples, dropped = clean(prompts, raw, tokens)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in triples]
    (ASSETS / "demo_news.jsonl").write_text("".join(lines))
    page = card(triples, dropped, len(raw), tokens)
    (ASSETS / "demo_news.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
