# pyright: basic
"""Running modules without nnsight, at the steps in which nobody but `apply` looks at them."""

from dspa_nn.graph.adapter import hands_over, restore, silence, waits_alone


class Bypass:
    """Lets modules that nobody waits for run as they would without nnsight.

    Hundreds of modules hand nnsight what goes in and out of them at every step, which costs more
    than the edit does. Where one worker alone waits for any of them, for the output layer, all the
    others need hand over nothing.

    Args:
        worker: the one that goes on waiting.
        root: the called torch module.
        block: the decoder block that the worker waits for.
    """

    def __init__(self, worker, root, block):
        self.worker = worker
        self.root = root
        self.block = block
        self.silenced = []  # (module, what restores it)

    def begin(self) -> None:
        """Silence the other modules, unless they are already, or somebody else waits for any."""
        if self.silenced or not waits_alone(self.worker):
            return
        for module in self.root.modules():
            if module is not self.block and hands_over(module):
                self.silenced.append((module, silence(module)))

    def end(self) -> None:
        """Let all modules hand over again."""
        for module, controller in self.silenced:
            restore(module, controller)
        self.silenced = []
