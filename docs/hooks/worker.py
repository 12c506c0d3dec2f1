"""Runs the code blocks of one page in a process of its own: a line of JSON in, a line out.

Alone in a process, a page can be stopped, its memory can be measured, and its models are gone
when it is done.
"""

import contextlib
import io
import json
import linecache
import os
import resource
import sys
import time
import traceback
import types
import warnings
from typing import Any

MAXRSS = 2**30 if sys.platform == "darwin" else 2**20  # of a gigabyte; bytes there, kilobytes here


def show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings of the package are part of what a page shows; those of others are noise there."""
    if category.__name__ == "DSPAWarning":
        print(f"DSPAWarning: {message}")


def figures() -> list[str]:
    """Take the open figures of matplotlib, as SVG that follows the page's colour."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    drawn = []
    for number in pyplot.get_fignums():
        buffer = io.StringIO()
        pyplot.figure(number).savefig(buffer, format="svg", transparent=True, bbox_inches="tight")
        svg = buffer.getvalue()
        drawn.append(svg[svg.index("<svg") :].replace("#000000", "currentColor"))
    pyplot.close("all")
    return drawn


def run(page: types.ModuleType, code: str, file: str, line: int) -> dict[str, Any]:
    """Run one block; `file` and `line` say where its source lies, for errors and for nnsight."""
    if not os.path.exists(file):  # noqa: PTH110
        # nnsight reads the source of a tracing context: let it look here.
        linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    out, error = io.StringIO(), None
    start = time.monotonic()
    with contextlib.redirect_stdout(out):
        try:
            exec(compile("\n" * (line - 1) + code, file, "exec"), vars(page))
        except BaseException:  # noqa: BLE001 (also `exit()`: the page says it)
            error = traceback.format_exc()
    return {
        "text": out.getvalue(),
        "error": error,
        "figures": [] if error else figures(),
        "seconds": time.monotonic() - start,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS,
    }


def main() -> None:
    # What libraries write to the terminal must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.showwarning = show_warning
    page = types.ModuleType("__main__")
    sys.modules["__main__"] = page
    for asked in sys.stdin:
        answers.write(json.dumps(run(page, **json.loads(asked))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
