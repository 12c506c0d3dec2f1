# pyright: basic
"""What keeps nnsight's own cost off the steps that only `apply` looks at."""

from nnsight.intervention.source import STATE, Controller, run_body


class Rest:
    """A run in which one worker alone waits for a module, at its block.

    Hundreds of modules hand nnsight what goes in and out at every step, which costs more than the
    edit does. At rest they run as they would without nnsight, but for the block.
    """

    def __init__(self, worker, root, block):
        self.worker = worker
        self.root = root
        self.block = block
        self.away = []  # modules at rest, each with nnsight's own forward

    def begin(self):
        """Let the modules rest, if they don't and nobody else waits for any."""
        if self.away or not self.alone():
            return
        for module in self.root.modules():
            own = vars(module)
            forward = own.get("forward")
            if module is self.block or not isinstance(forward, Controller):
                continue
            self.away.append((module, forward))
            if own[STATE].body is type(module).forward and "_hf_hook" not in own:
                del own["forward"]
            else:
                # accelerate's moves between devices, or a forward of the module's own.
                own["forward"] = Body(own[STATE], module, forward)

    def end(self):
        """Put everything back."""
        for module, forward in self.away:
            vars(module)["forward"] = forward
        self.away = []

    def alone(self):
        """Whether every other worker is done or waits for the result of the whole run."""
        interleaver = self.worker.interleaver
        shared = interleaver.observers or interleaver.defer_exceptions
        return not shared and all(
            other.worker is not None and (not other.alive or waits_for(other) == "result")
            for other in interleaver.mediators
            if other is not self.worker
        )


class Body:
    """A module's forward as nnsight runs it, without handing anything over."""

    def __init__(self, state, module, forward):
        self.state = state
        self.module = module
        self.__wrapped__ = forward.__wrapped__  # its signature, which `generate` looks at

    def __call__(self, *args, **kwargs):
        """What the controller does when no trace is on."""
        return run_body(self.state, self.module, args, kwargs)


def waits_for(worker):
    """The location that a worker is parked on, or None."""
    return None if worker.pending is None else worker.pending.provider
