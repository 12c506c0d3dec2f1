"""What nnsight's `.save` on every object breaks when it is imported later, and the guard for it.

Each case needs an interpreter of its own: what has been imported once cannot be imported late.
"""

import subprocess
import sys
import threading

import pytest

from dspa_nn.imports import late, without_nnsight_save
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow  # an interpreter for each case

SERVE = """
import anyio

async def serve():
    # What a web server does in its first request: accept a connection, read, answer.
    async def answer(stream):
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK")

    async with anyio.create_task_group() as tasks:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(listener.serve, answer)
        async with await anyio.connect_tcp("127.0.0.1", port) as client:
            await client.send(b"GET / HTTP/1.1")
            print((await client.receive()).decode())
        tasks.cancel_scope.cancel()

anyio.run(serve)
"""
TRACE = "print([].save.__name__)"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("import nnsight, beartype", "unhashable type: 'instancemethod'"),
        (f"import nnsight\n{SERVE}", "missing its type"),
    ],
    ids=["beartype", "anyio"],
)
def test_without_the_guard_nnsight_breaks_them(code: str, complaint: str) -> None:
    # Once this passes no longer, a newer nnsight has mended it: the guard can go.
    done = run(code)
    assert done.returncode
    assert complaint in done.stderr


@pytest.mark.parametrize("first", ["nnsight", "library"])
@pytest.mark.parametrize(
    ("name", "use", "printed"),
    [
        (
            "beartype",
            "from beartype.door import is_bearable; print(is_bearable([1, 'a'], list[str | int]))",
            "True",
        ),
        ("anyio", SERVE, "HTTP/1.1 200 OK"),
    ],
    ids=["beartype", "anyio"],
)
def test_with_the_guard_they_work_in_either_order(
    first: str, name: str, use: str, printed: str
) -> None:
    guarded = f"from dspa_nn.imports import late\nlate({name!r})"
    order = ["import nnsight", guarded] if first == "nnsight" else [guarded, "import nnsight"]
    done = run("\n".join([*order, use, TRACE]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == [printed, "save"]


def test_nothing_is_mounted_where_nnsight_is_not_imported() -> None:
    done = run(
        "import sys\nfrom dspa_nn.imports import late\nlate('beartype')\n"
        "print(hasattr(object(), 'save'), 'nnsight' in sys.modules)"
    )
    assert done.stdout.split() == ["False", "False"]


def test_save_is_mounted_again_after_an_error() -> None:
    import nnsight

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        late("no_such_module")
    assert vars(object)["save"].__func__ is nnsight.save


def test_blocks_of_two_threads_overlap() -> None:
    import nnsight

    assert nnsight.save
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with without_nnsight_save():
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=other)
    with without_nnsight_save():
        thread.start()
        assert inside.wait(10)
    still_off = "save" not in vars(object)
    go_on.set()
    thread.join()
    assert still_off
    assert "save" in vars(object)
