"""Write the triples about plans with the embedded model itself, then clean them.

    python recipes/make_plan_triples.py generate --raw raw.jsonl   # resumes where it stopped
    python recipes/make_plan_triples.py clean --raw raw.jsonl      # writes dspa_nn/assets/

The user has a plan ("I want to run a marathon.") and asks for encouragement, or for what could go
wrong. The model answers each plan in both ways, under an instruction and two worked examples
(`plan_styles.json`) that are seen while generating only. Each pair of answers gives two triples:
what is chosen where encouragement is asked for is rejected where the risks are.
"""

import argparse
import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import demo_cleaning as cleaning
import torch
from make_news_triples import Row, Tokens, counter, mirrored, prefix, read_lines, sample

from dspa_nn.evaluation import encouragement
from dspa_nn.models import model_path

HERE = Path(__file__).parent
ASSETS = HERE.parent / "dspa_nn" / "assets"
STYLES = {"encouraging": "encourage", "warning": "warn"}  # style -> what the user asks for
SIGN = {"encouraging": 1.0, "warning": -1.0}  # of `encouragement`
TRIES = 6  # for each answer, until one passes the checks
BATCH = 44
SHORTEST, SENTENCES = 8, 3  # tokens of an answer, and the most sentences that are kept of it
HELD_OUT = {"test": 26, "dev": 16}  # plans; all others are for fitting
# How the user asks for the one and for the other.
CUES = (
    ("Encourage me: {}", "Criticise my plan: {}"),
    ("{} Encourage me!", "{} What could go wrong?"),
)


def generate(raw: Path, model: Any, tok: Any, plans: list[Row], styles: Row) -> None:
    """Answer every plan in each style until an answer passes; lines are appended to `raw`."""
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.touch()
    tokens = counter(tok)
    for number in range(TRIES):
        for style in STYLES:
            lines = [row for row in read_lines(raw) if row["style"] == style]
            tried = Counter(row["id"] for row in lines)
            good = {row["id"] for row in lines if keep(row["text"], style, tokens)[0]}
            count = len(styles[style]["examples"])
            groups: dict[int, list[Row]] = {}
            for place, plan in enumerate(plans):
                if plan["id"] not in good and tried[plan["id"]] <= number:
                    groups.setdefault((place + number) % count, []).append(plan)
            for first, group in groups.items():
                for start in range(0, len(group), BATCH):
                    part = group[start : start + BATCH]
                    torch.manual_seed(sum(int(plan["id"][1:]) for plan in part) + number)
                    texts = [plan["plan"] for plan in part]
                    answers = sample(model, tok, prefix(styles[style], first), texts)
                    with raw.open("a") as file:
                        for plan, text in zip(part, answers, strict=True):
                            line = {"id": plan["id"], "style": style, "text": text}
                            file.write(json.dumps(line) + "\n")
                    print(f"{style}, try {number + 1}: {len(part)} more", flush=True)


def keep(answer: str, style: str, tokens: Tokens) -> tuple[str, str]:
    """The longest opening in whole sentences each of which is in style or neither, or why none."""
    whole = cleaning.sentences(answer)[:SENTENCES]
    reason = "no whole sentence" if not whole else "off style"
    for count in range(len(whole), 0, -1):
        text = "".join(whole[:count]).strip()
        signs = {encouragement(sentence) for sentence in whole[:count]}
        if SIGN[style] in signs and -SIGN[style] not in signs and tokens(text) >= SHORTEST:
            reason = cleaning.text_fault(text)
            if not reason:
                return text, ""
    return "", reason


def clean(plans: list[Row], raw: list[Row], tokens: Tokens) -> tuple[list[Row], Counter[str]]:
    """Two triples for every plan with a good answer in both styles, and what was dropped why."""
    return mirrored(
        plans, raw, keep=lambda text, style: keep(text, style, tokens),
        said=lambda plan, _style: plan["plan"],
        styles=STYLES, cues=CUES, held_out=HELD_OUT, item="plan",
    )  # fmt: skip


def card(triples: list[Row], dropped: Counter[str], answers: int, tokens: Tokens) -> str:
    """The set's card: the page with its figures filled in."""
    counts = Counter((row["split"], row["kind"]) for row in triples)
    lines = ["| split | encourage | warn |", "|---|---|---|"]
    lines += [
        f"| {name} | {counts[name, 'encourage']} | {counts[name, 'warn']} |"
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
    page = (HERE / "plan_triples_card.md").read_text()
    return page.format(
        tables="\n".join(lines), tries=TRIES, shortest=SHORTEST, sentences=SENTENCES,
        distinct=cleaning.DISTINCT,
    )  # fmt: skip


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
    plans = read_lines(HERE / "plan_prompts.jsonl")
    if args.step == "generate":
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        styles = json.loads((HERE / "plan_styles.json").read_text())
        generate(args.raw, model, tok, plans, styles)
        return
    raw, tokens = read_lines(args.raw), counter(tok)
    triples, dropped = clean(plans, raw, tokens)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in triples]
    (ASSETS / "demo_plans.jsonl").write_text("".join(lines))
    page = card(triples, dropped, len(raw), tokens)
    (ASSETS / "demo_plans.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
