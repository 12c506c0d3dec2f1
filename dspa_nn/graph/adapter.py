# pyright: basic
"""The adapter to nnsight's internals: its next version breaks this module of `graph/` alone.

nnsight 0.8.1 runs every block of a trace as a worker (a `Mediator`), in turns with the model. A
worker waits until the model reaches a *location*, such as "model.layers.9.output", and then reads
or replaces the value there. `dspa_nn/ndif/adapter.py` is for the client's side.
"""

from collections import ChainMap
from typing import Any

from nnsight.intervention.interleaver import EarlyStopException, Mediator, OutOfOrderError
from nnsight.intervention.iterator import Iterations, getcurrent
from nnsight.intervention.source import STATE, Controller, run_body
from nnsight.util import from_import_path

# The object at a dotted path, or ImportError. It travels by name, unlike what is defined here.
look_up = from_import_path
# Raised in a worker that waits for a location which the model will not reach any more.
RunEnded = OutOfOrderError


def value_at(location: str) -> Any:
    """Wait until the model reaches a location, and return the value there."""
    return Mediator.value(location)


def replace_at(location: str, value) -> None:
    """Put another value in place of the one that `value_at` returned."""
    Mediator.swap(location, value)


def end_run() -> None:
    """End the traced forward here: no later layer and no LM head is run."""
    raise EarlyStopException()


def replace_when_pickled(stand_ins: dict[type, Any]) -> None:
    """Let nnsight's pickler ask `stand_ins`, by class, how to reduce an object.

    It alone does, also where remote="local" packs a block and runs it in this process.
    """
    from nnsight.intervention.serialization import CustomCloudPickler as Pickler

    known: Any = Pickler.dispatch_table
    Pickler.dispatch_table = ChainMap(stand_ins, known)


# The call around a block


def running_worker() -> Any:
    """The worker of the running block, or None outside a tracing context."""
    reference = getattr(getcurrent(), "mediator", None)
    return None if reference is None else reference()


def call_of(worker) -> Any:
    """The `Call` that a running worker belongs to, or None where no model is being called.

    nnsight hands the assembled input to the model in `interleave` and keeps it nowhere else: the
    frame that drives the worker is where ids, mask and settings can be read.
    """
    frame, outer = None, getcurrent().parent
    while outer is not None and frame is None:
        frame, outer = driving_frame(outer.gr_frame), outer.parent
    return None if frame is None else Call(worker, frame.f_locals)


def driving_frame(frame: Any) -> Any:
    """The innermost frame of nnsight's `interleave` at or above `frame`, or None."""
    while frame is not None:
        if frame.f_code.co_name == "interleave" and "batcher" in frame.f_locals:
            return frame
        frame = frame.f_back
    return None


def runs_steps(frame: Any) -> bool:
    """Whether a frame is that of nnsight's own loop over steps, which calls a block at each."""
    return frame.f_code is Iterations.execute.__code__


class Call:
    """The model call that a tracing context is about to make, and the block's part in it.

    Attributes:
        worker: the worker of the block.
        name: what is called: "generate", "pipe", or the forward's name.
        generating: whether that is `generate`.
        kwargs: what it is called with, all blocks of the context together.
        module: the torch module that is called.
        rows_of_block: [first, number] of the rows that are the block's, or None for all.
        blocks: the number of `tracer.invoke` blocks.
    """

    def __init__(self, worker, driver: dict):
        function = driver["fn"]
        self.worker = worker
        self.envoy = driver["self"]
        self.name = getattr(function, "__name__", str(function))
        self.generating = self.name == "generate"
        self.passed = driver["kwargs"]
        self.kwargs = dict(self.passed)
        self.module = self.envoy._module
        self.rows_of_block = worker.batch_group
        self.blocks = len(driver["batcher"].invokes)

    def rows(self, key: str) -> Any:
        """The block's rows of a tensor that the call was given, or None."""
        value, rows = self.kwargs.get(key), self.rows_of_block
        if value is None or rows is None or self.blocks < 2:
            return value
        return value[rows[0] : rows[0] + rows[1]]

    def set(self, key: str, value) -> None:
        """Call the model with another value of a keyword: it has not been called yet."""
        self.passed[key] = self.kwargs[key] = value

    def location(self, path: str) -> str:
        """The location of the output of a submodule."""
        return f"{self.envoy.path}.{path}.output"

    def submodule(self, path: str) -> Any:
        """The torch module at a dotted path, seen from the called one."""
        return self.envoy.get(path)._module

    def has_passed(self, location: str) -> bool:
        """Whether the model has reached a location since the block began."""
        return bool(self.worker.occurrence(location))

    def workers(self) -> list:
        """All workers of the run."""
        return self.worker.interleaver.mediators

    def shares_rows_with(self, worker) -> bool:
        """Whether another worker has any row of this block."""
        one, other = self.rows_of_block, worker.batch_group
        if one is None or other is None:
            return True
        return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]

    def start(self, workers: list) -> None:
        """Start workers on the block's rows.

        They come before the block's own worker, so that what the block reads of a layer after
        `apply` is the steered value.
        """
        interleaver = self.worker.interleaver
        index = interleaver.mediators.index(self.worker)
        for worker in reversed(workers):
            worker.batch_group = self.rows_of_block
            interleaver.mediators.insert(index, worker)
            worker.start(interleaver)


class Worker(Mediator):
    """A worker beside the user's block; a subclass says in `work` what it does."""

    def __init__(self):
        Mediator.__init__(self, None, {}, {})

    def _run(self):
        self.work()

    def work(self) -> None:
        """Read and replace values, until the run has ended or nothing is left to do."""

    def wait_for_visit(self, number: int) -> None:
        """Let the next `value_at` wait for this visit of a location, counted from 0.

        Without it, a location that was visited before would be served again at once.
        """
        self.iteration = number


# Modules that hand over nothing


def waits_alone(worker) -> bool:
    """Whether every other worker is done or waits for the result of the whole run."""
    interleaver = worker.interleaver
    if interleaver.observers or interleaver.defer_exceptions:
        return False
    return all(
        other.worker is not None
        and (not other.alive or (other.pending is not None and other.pending.provider == "result"))
        for other in interleaver.mediators
        if other is not worker
    )


def hands_over(module) -> bool:
    """Whether a module hands nnsight what goes in and out of it."""
    return isinstance(vars(module).get("forward"), Controller)


def silence(module) -> Any:
    """Let a module run without handing anything over; return what `restore` needs."""
    attributes = vars(module)
    controller = attributes["forward"]
    if attributes[STATE].body is type(module).forward and "_hf_hook" not in attributes:
        del attributes["forward"]
    else:
        # accelerate moves its inputs between devices, or somebody replaced its forward.
        attributes["forward"] = PlainForward(attributes[STATE], module, controller)
    return controller


def restore(module, controller) -> None:
    """Let a silenced module hand over again."""
    vars(module)["forward"] = controller


def own_attributes(module: Any) -> dict[str, Any]:
    """A module's attributes without what nnsight put there to hear of its calls."""
    attributes = dict(vars(module))
    if hands_over(module):
        del attributes["forward"]
    attributes.pop(STATE, None)
    return attributes


class PlainForward:
    """A module's forward as nnsight runs it while no trace is on."""

    def __init__(self, state, module, controller):
        self.state = state
        self.module = module
        self.__wrapped__ = controller.__wrapped__  # `generate` looks at its signature

    def __call__(self, *args, **kwargs):
        """Run the forward and hand nothing over."""
        return run_body(self.state, self.module, args, kwargs)
