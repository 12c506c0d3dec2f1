# pyright: basic
"""How nnsight carries hidden states to a `Steering`: workers beside the user's block.

A bare edit inside `generate` touches the first pass only, and the statements after a loop over
`tracer.iter[:]` never run. So the loop over steps gets a worker of its own, and the block that
called `apply` goes on.
"""

from dspa_nn.graph.adapter import RunEnded, Worker, replace_at, value_at
from dspa_nn.graph.blocks import hidden_states, with_hidden_states, without_autocast
from dspa_nn.graph.bypass import Bypass
from dspa_nn.graph.refusals import SteeringRefusal, refuse


class StepWorker(Worker):
    """Carries every pass through the two layers to a `Steering`.

    Args:
        steering: the run.
        locations: of the output of the input layer, and of the output layer.
        root, block: the called torch module, and the output layer in it.
    """

    def __init__(self, steering, locations, root, block):
        Worker.__init__(self)
        self.steering = steering
        self.input_location, self.output_location = locations
        self.bypass = Bypass(self, root, block)

    def work(self) -> None:
        """Read the prompt, then edit pass after pass, until the run has ended."""
        steering = self.steering
        try:
            if steering.reads_prompt:
                hidden = hidden_states(value_at(self.input_location))
                with without_autocast(hidden):
                    steering.read_prompt(hidden)
            step = 0
            while True:
                self.wait_for_visit(step)
                output = value_at(self.output_location)
                hidden = hidden_states(output)
                with without_autocast(hidden):
                    edited = steering.edit(hidden)
                if edited is not hidden:
                    replace_at(self.output_location, with_hidden_states(output, edited))
                if not steering.record.generating:
                    return steering.finish()
                step += 1
                self.bypass.begin()
        except RunEnded:
            # There is no further step, or the run was stopped before it came this far.
            steering.finish()
        finally:
            self.bypass.end()


class ResultWorker(Worker):
    """Hands the finished sequences to a `Steering`, for the log."""

    def __init__(self, steering):
        Worker.__init__(self)
        self.steering = steering

    def work(self) -> None:
        """Wait for the result of the run."""
        try:
            result = value_at("result")
        except RunEnded:
            return
        self.steering.finish(getattr(result, "sequences", result))


def start(call, steering, paths) -> None:
    """Start the workers of one `apply` beside the block that called it.

    paths: the two decoder blocks, seen from the called module.
    """
    locations = [call.location(path) for path in paths]
    for location in locations if steering.reads_prompt else locations[1:]:
        if call.has_passed(location):
            raise refuse(
                SteeringRefusal,
                f"apply was called after {location} had run; call it first in the block, before "
                "any later layer is read",
            )
    for other in call.workers():
        same = isinstance(other, StepWorker) and other.output_location == locations[1]
        if same and call.shares_rows_with(other):
            raise refuse(
                SteeringRefusal,
                f"two apply calls would steer {locations[1]} in the same rows; call it once, with "
                "one map, such as the sum map_a + map_b",
            )
    workers: list[Worker] = [StepWorker(steering, locations, call.module, call.submodule(paths[1]))]
    if call.generating:
        workers.append(ResultWorker(steering))
    call.start(workers)
