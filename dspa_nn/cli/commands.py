"""Which subcommands `dspa` has: the module of each, its line in the help, and an example."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: of `dspa_nn.cli`, which defines a function of the subcommand's name.
        line: in `dspa --help`: the first line of that function's docstring.
        example: a command that can be typed as it stands, but for the names of files.
    """

    module: str
    line: str
    example: str


COMMANDS = {
    "demo": Command(
        "demo",
        "Fit a map on embedded triples, steer held-out prompts, and print the measured effect.",
        "dspa demo --set register --out demo",
    ),
    "fit": Command(
        "fit",
        "Fit a conditional-difference map on preference triples and save it.",
        "dspa fit triples.jsonl --chat --out my_map",
    ),
    "merge": Command(
        "fit",
        "Merge the shards that `dspa fit --shards` counted, fit a map and save it.",
        "dspa merge shards --out my_map",
    ),
    "sweep": Command(
        "sweep",
        "Count SAEs at several layers in one run, and print which pair of layers does best.",
        "dspa sweep triples.jsonl --chat --output-sae 21=saes/21 --output-sae 24=saes/24 "
        "--input-sae 9=saes/9",
    ),
    "steer": Command(
        "steer",
        "Answer a prompt twice, unsteered and steered, and say what was edited.",
        'dspa steer my_map "I passed my exam!" --chat --alpha 0.5',
    ),
    "chat": Command(
        "chat",
        "Talk with the model, steered and unsteered answers side by side.",
        "dspa chat my_map",
    ),
    "evaluate": Command(
        "evaluate",
        "Write a page on what a map does, what it damages, and whether anything simpler does it.",
        "dspa evaluate my_map --triples held_out.jsonl --dev dev.jsonl --out receipt --chat",
    ),
    "tune": Command(
        "tune",
        "Choose a map's settings by what steers best on development triples, within limits on "
        "damage.",
        "dspa tune triples.jsonl --dev dev.jsonl --out tuning --chat",
    ),
    "serve": Command(
        "serve",
        "Answer the OpenAI API's chat completions, each request steered by its own map and "
        "settings.",
        "dspa serve --map warm=my_map --port 8000",
    ),
    "audit": Command(
        "audit",
        "Answer a prompt unsteered and steered, and explain every edit in one HTML file.",
        'dspa audit my_map "I passed my exam!" --chat --out report.html',
    ),
    "persona": Command(
        "persona",
        "Turn weights on axes of style into a persona, a file that steers as a map does.",
        "dspa persona make friendly=1 concise=0.5 --out friendly.json",
    ),
    "mt-bench": Command(
        "mt_bench",
        "Answer MT-Bench's questions, have a judge of your choice rate them, and print the scores.",
        "dspa mt-bench data/mt_bench --out answers --name steered --map my_map "
        "--judge-url http://127.0.0.1:8000/v1 --judge-model my-judge",
    ),
    "alpaca-eval": Command(
        "alpaca_eval",
        "Answer AlpacaEval's instructions, and print how often a judge prefers the answers.",
        "dspa alpaca-eval reference.json --out answers --name steered --map my_map "
        "--judge-url http://127.0.0.1:8000/v1 --judge-model my-judge",
    ),
    "lm-eval": Command(
        "lm_eval",
        "Run lm-evaluation-harness with the model class `dspa`, a steered model.",
        "dspa lm-eval -- run --model dspa --model_args map=my_map --tasks dspa_paper",
    ),
    "reproduce": Command(
        "reproduce",
        "Measure the paper's tables on one of its models, and write them beside the published "
        "figures.",
        "dspa reproduce gemma-2-2b --stand-in",
    ),
    "presets": Command(
        "presets",
        "List the presets: model, layers, SAEs, memory, download, and what NDIF would be sent.",
        "dspa presets gemma-2-9b",
    ),
    "inspect": Command(
        "inspect",
        "Say what a file of dspa-nn is, here or on the hub: a map, counts, a receipt, a job.",
        "dspa inspect my_map",
    ),
    "counts": Command(
        "counts",
        "List the counts that `dspa fit` has kept, or remove them.",
        "dspa counts clear",
    ),
    "payload": Command(
        "payload",
        "Print what a run on NDIF would send, part by part; nothing is sent.",
        "dspa payload --preset gemma-2-9b",
    ),
    "bench": Command(
        "bench",
        "Print what fitting costs in FLOPs, beside DPO and RAHF-SCIT; no model is loaded.",
        "dspa bench --preset gemma-2-9b --prompt 200 --chosen 300 --rejected 300",
    ),
    "doctor": Command(
        "doctor",
        "Look at what runs need here: versions, model and SAEs, hub, NDIF, memory; name each fix.",
        "dspa doctor --preset gemma-2-9b",
    ),
    "ndif": Command(
        "ndif",
        "Look at the NDIF server and its models, or ask after a job that was submitted there.",
        "dspa ndif job job.json",
    ),
}


def function_of(name: str) -> Callable[..., None]:
    """Import the function behind a subcommand.

    >>> function_of("bench").__module__
    'dspa_nn.cli.bench'
    """
    module = import_module(f"dspa_nn.cli.{COMMANDS[name].module}")
    return getattr(module, name.replace("-", "_"))
