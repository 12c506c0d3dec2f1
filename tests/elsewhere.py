"""A Python in which the toolkit is not installed, as on an NDIF server."""

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

# Importing torch and nnsight takes seconds, so one process does it and forks for every call.
SERVER = """
import json, os, sys, traceback
class Hide:
    def find_spec(self, name, *rest):
        if name.split('.')[0] in ('dspa_nn', 'sae_lens', 'jaxtyping', 'beartype', 'users_sae'):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hide())
import nnsight
from nnsight.intervention.serialization import loads

def run(folder, arguments, path):
    for number, name in ((1, 'out'), (2, 'err')):
        os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ['code.py', os.path.join(folder, 'blob'), *arguments]
    sys.path[:0] = [path] if path else []
    names = {'__name__': '__main__', 'sys': sys}
    file = os.path.join(folder, 'code.py')
    try:
        with open(sys.argv[1], 'rb') as blob:
            names['sent'] = loads(blob.read())
        exec(compile(open(file).read(), file, 'exec'), names)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        code = run(*json.loads(line))
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@cache
def server() -> subprocess.Popen[str]:
    """The process that forks, started by the first call of a session."""
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # In the file system's root, so that `tests` and the toolkit are not found by accident.
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=bare, cwd="/",
    )  # fmt: skip
    atexit.register(ended, started)
    return started


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate()  # its input is at its end, and so is it


def run_elsewhere(
    code: str, sent: object, folder: Path, *arguments: str, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Send a value as nnsight does, and run code on it, which calls it `sent`, over there.

    folder: where the pickled value is put; arguments: `sys.argv[2:]`; path: PYTHONPATH.
    """
    from nnsight.intervention.serialization import dumps

    (folder / "blob").write_bytes(dumps(sent))
    (folder / "code.py").write_text(code)  # nnsight reads the source of a tracing context
    there = server()
    assert there.stdin is not None
    assert there.stdout is not None
    there.stdin.write(json.dumps([str(folder), list(arguments), path]) + "\n")
    there.stdin.flush()
    status = int(there.stdout.readline())
    return subprocess.CompletedProcess(
        ["elsewhere"], status, (folder / "out").read_text(), (folder / "err").read_text()
    )
