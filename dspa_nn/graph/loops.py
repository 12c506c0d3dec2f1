# pyright: basic
"""Whether a block is inside a loop over the steps of a run, read off the code around the line."""

from typing import Any

from dspa_nn.graph.adapter import look_up, runs_steps


def loops_over_steps(worker) -> bool:
    """Whether the block is at a line inside a loop over `tracer.iter[...]` or `tracer.all()`.

    nnsight notes the step that a loop is at, but 0 as well where there is no loop, and the loop's
    iterator lies on the interpreter's stack alone. So the code around the line is looked at.
    """
    if worker.iteration:
        return True
    frame, outer = look_up("sys._getframe")(1), False
    while frame is not None and frame.f_locals.get("self") is not worker:
        if runs_steps(frame) or in_loop(frame.f_code, frame.f_lasti, outer):
            return True
        frame, outer = frame.f_back, True
    return False


def in_loop(code, at: int, calling: bool = False) -> bool:
    """Whether the instruction at an offset lies in a `for` over something's `iter` or `all`.

    Also where a name stands for it. calling: the instruction calls the code that is looked at
    already, so that a comprehension, `map` or a helper loops over what it is handed.
    """
    if "iter" not in code.co_names and "all" not in code.co_names:
        return False
    instructions = list(look_up("dis.get_instructions")(code))
    steps = steps_in(instructions)
    # The position of a FOR_ITER is that of what is looped over. A call has room behind it.
    around = [
        one for one in instructions if one.opname == "FOR_ITER" and one.offset < at < one.argval
    ]
    if calling:
        around += [one for one in instructions if one.offset <= at][-1:]
    return any(
        step.offset < one.offset and within(step.positions, one.positions)
        for one in around
        for step in steps
    )


def steps_in(instructions) -> list:
    """The instructions that load something's `iter` or `all`, or a name that was given it."""
    names: set[Any] = set()
    found: list[Any] = []
    for one, after in zip(instructions, instructions[1:] + instructions[-1:], strict=True):
        if one.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            if one.argval in ("iter", "all"):
                found.append(one)
        elif one.opname.startswith("LOAD_") and one.argval in names:
            found.append(one)
        if after.opname.startswith("STORE_") and after.opname != "STORE_SUBSCR":
            # What is stored is the value of the instruction before.
            if any(within(step.positions, one.positions) for step in found):
                names.add(after.argval)
            else:
                names.discard(after.argval)
    return found


def within(part, whole) -> bool:
    """Whether one stretch of source lies in another."""
    ends = (part.lineno, part.col_offset, whole.end_lineno, whole.end_col_offset)
    if None in ends:
        return False
    start = (whole.lineno, whole.col_offset) <= (part.lineno, part.col_offset)
    end = (part.end_lineno, part.end_col_offset) <= (whole.end_lineno, whole.end_col_offset)
    return start and end
