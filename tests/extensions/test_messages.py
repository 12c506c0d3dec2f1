"""What is said of an extension with a mistake: the axis by its name, the line in its file."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor, nn

from dspa_nn import ExtensionError, extension
from dspa_nn.extensions import check, names
from dspa_nn.extensions.points import point_of

Scores = Float64[Tensor, "batch d_out"]
Planned = tuple[Int64[Tensor, "batch raised"], Int64[Tensor, "batch lowered"]]
HERE = "tests/extensions/test_messages.py"

cache: dict[str, int] = {}
layer = nn.Linear(2, 2)
table = torch.zeros(3)


def line_of(mark: str) -> int:
    """The line of this file that ends with a mark."""
    lines = inspect.getsource(inspect.getmodule(line_of)).splitlines()  # pyright: ignore[reportArgumentType]
    return 1 + next(number for number, line in enumerate(lines) if line.endswith(f"# {mark}"))


def refused(write: Callable[[], Any]) -> str:
    with pytest.raises(ExtensionError) as caught:
        write()
    return str(caught.value)


def test_axes_in_another_order() -> None:
    def write() -> Any:
        @extension("score", name="turned")
        def turned(scores: Scores) -> Float64[Tensor, "d_out batch"]:
            return scores.T  # turned

    assert refused(write) == (
        "score turned returned Float[Tensor, '64 2'], expected Float[Tensor, 'batch d_out'] with "
        f"batch=2, d_out=64; its axes are in another order ({HERE}:{line_of('turned')})"
    )


def test_an_axis_of_another_size() -> None:
    def write() -> Any:
        @extension("score", name="cut")
        def cut(scores: Scores) -> Float64[Tensor, "batch some"]:
            return scores[:, :16]  # cut

    assert refused(write) == (
        "score cut returned Float[Tensor, '2 16'], expected Float[Tensor, 'batch d_out'] with "
        f"batch=2, d_out=64 ({HERE}:{line_of('cut')})"
    )


def test_an_annotation_with_axes_in_another_order() -> None:
    def write() -> Any:
        @extension("score", name="misread")  # misread
        def misread(scores: Float64[Tensor, "d_out batch"]) -> Scores:
            return scores

    assert refused(write) == (
        "score misread annotates scores as Float64[Tensor, 'd_out batch'], and is given "
        "Float64[Tensor, 'batch d_out']: the axes are in another order "
        f"({HERE}:{line_of('misread')})"
    )


def test_an_annotation_of_another_number() -> None:
    def write() -> Any:
        @extension("score", name="narrow")  # narrow
        def narrow(scores: Float32[Tensor, "batch d_out"]) -> Scores:
            return scores.double()

    assert refused(write) == (
        "score narrow annotates scores as Float32[Tensor, 'batch d_out'], and is given "
        "Float64[Tensor, '2 64'], Float64[Tensor, 'batch d_out'] with batch=2, d_out=64 "
        f"({HERE}:{line_of('narrow')})"
    )


def test_float64_where_the_latents_are_float32() -> None:
    def write() -> Any:
        @extension("edit", name="wide")
        def wide(latents: Float[Tensor, "batch position k"]) -> Float[Tensor, "batch position k"]:
            return latents.double() / 2  # wide

    assert refused(write) == (
        "edit wide returned Float64[Tensor, '2 3 4'], expected float32, Float[Tensor, "
        "'batch position k'] with batch=2, position=3, k=4; write .to(torch.float32) "
        f"({HERE}:{line_of('wide')})"
    )


def test_an_argument_that_is_changed_in_place() -> None:
    def write() -> Any:
        @extension("score", name="writes")
        def writes(scores: Scores) -> Scores:
            half = scores * 0.5
            scores[:, 0] = 0  # writes
            return half + scores

    assert refused(write) == (
        "score writes changed its argument scores in place, which others still read; write to a "
        f"new tensor, as scores.clone() makes one ({HERE}:{line_of('writes')})"
    )


def test_global_state_that_is_read() -> None:
    def write() -> Any:
        @extension("score", name="remembers")
        def remembers(scores: Scores) -> Scores:
            return scores * cache.get("times", 1)  # remembers

    assert refused(write) == (
        "score remembers reads the global cache, a dict, which may change between calls and does "
        "not travel; pass it as an attribute of a small class, which travels with its tensors "
        f"({HERE}:{line_of('remembers')})"
    )


def test_global_state_that_is_assigned() -> None:
    def write() -> Any:
        @extension("score", name="counts")
        def counting(scores: Scores) -> Scores:
            global layer
            layer = 3  # counts
            return scores

    assert refused(write) == (
        "score counts assigns the global layer, and may keep no state from call to call; return "
        f"what is computed, or hold constants in a small class ({HERE}:{line_of('counts')})"
    )


def test_a_global_tensor() -> None:
    def write() -> Any:
        @extension("score", name="tabled")
        def tabled(scores: Scores) -> Scores:
            return scores * table.sum()  # tabled

    assert refused(write).startswith("score tabled reads the global table, a tensor; pass it as an")


def test_a_closure_over_a_module() -> None:
    mine = nn.Linear(2, 2)

    def write() -> Any:
        @extension("score", name="closed")  # closed
        def closed(scores: Scores) -> Scores:
            return scores * float(mine.weight.sum())

    assert refused(write) == (
        "score closed closes over mine, a module of torch (Linear), which does not travel; keep "
        f"the tensors that it needs in a small class ({HERE}:{line_of('closed')})"
    )


def test_a_module_that_a_server_lacks() -> None:
    def write() -> Any:
        @extension("score", name="imports")
        def imports(scores: Scores) -> Scores:
            return scores * len(pytest.__name__)  # imports

    assert refused(write).startswith(
        "score imports reads the global pytest, and a server has no pytest; use torch, math, "
    )


def test_an_argument_without_a_type() -> None:
    def write() -> Any:
        @extension("score", name="untyped")  # untyped
        def untyped(scores) -> Scores:  # pyright: ignore
            return scores

    assert refused(write) == (
        "score untyped has no type for its argument scores; write scores: Float64[Tensor, "
        f"'batch d_out'] ({HERE}:{line_of('untyped')})"
    )


def test_a_tensor_without_axes() -> None:
    def write() -> Any:
        @extension("score", name="bare")
        def bare(scores: Tensor) -> Scores:
            return scores

    assert "has a bare Tensor for its argument scores; write its axes: Float64" in refused(write)


def test_no_type_of_what_is_returned() -> None:
    def write() -> Any:
        @extension("select", name="silent")
        def silent(scores: Scores):
            return scores

    assert (
        "select silent has no type for what it returns; write -> tuple[Int64[Tensor, "
        "'batch k_augment'], Int64[Tensor, 'batch k_ablate']]" in refused(write)
    )


def test_a_name_that_is_taken() -> None:
    def first() -> Any:
        @extension("score", name="taken")  # taken
        def one(scores: Scores) -> Scores:
            return scores

    def second() -> Any:
        @extension("score", name="taken")  # again
        def other(scores: Scores) -> Scores:
            return -scores

    first()
    first()  # a cell of a notebook that is run again
    assert "taken" in names("score")
    assert refused(second) == (
        f"the name taken is taken by the score at {HERE}:{line_of('taken')}; choose another, or "
        f"give name= ({HERE}:{line_of('again')})"
    )


def test_a_name_of_the_papers() -> None:
    def write() -> Any:
        @extension("select", name="paper")
        def mine(scores: Scores) -> Planned:
            return scores.long(), scores.long()

    assert refused(write).startswith("the name paper is that of a select of the paper's")


def test_nan() -> None:
    def write() -> Any:
        @extension("score", name="divides")
        def divides(scores: Scores) -> Scores:
            return scores / scores.abs().amax(-1, keepdim=True)  # divides

    assert refused(write) == (
        "score divides returned NaN at batch 2, d_out 0; guard its divisions, roots and logarithms "
        f"({HERE}:{line_of('divides')})"
    )


def test_an_error_of_its_own() -> None:
    def write() -> Any:
        @extension("select", name="greedy")
        def greedy(scores: Scores, k_diff: int) -> Planned:
            best = scores.topk(k_diff).indices  # greedy
            return best, best[:, :0]

    found = refused(write)
    assert found.startswith(
        "select greedy raised RuntimeError (selected index k out of range) with"
    )
    assert found.endswith(f"({HERE}:{line_of('greedy')})")


def test_a_latent_that_there_is_none_of() -> None:
    def write() -> Any:
        @extension("select", name="beyond")
        def beyond(scores: Scores) -> Planned:
            far = torch.full((len(scores), 1), scores.shape[1])
            return far, far[:, :0]  # beyond

    assert refused(write) == (
        "select beyond planned latent 64, and there are latents 0 to 63 (-1 pads a row) "
        f"({HERE}:{line_of('beyond')})"
    )


@pytest.mark.parametrize("ways", ["both", "one"])
def test_a_latent_that_is_planned_twice(ways: str) -> None:
    both = ways == "both"

    def write() -> Any:
        @extension("select", name="again and again")
        def again(scores: Scores) -> Planned:
            lowest = scores.argsort(dim=-1, stable=True)[:, :1]
            return (lowest, lowest) if both else (lowest[:, :0], lowest.repeat(1, 2))

    assert "twice for one prompt, and each moves once" in refused(write)


def test_a_method_of_a_module_is_the_module() -> None:
    forward, drawn = nn.Linear(2, 2).forward, torch.zeros(2).sum

    def method() -> Any:
        @extension("score", name="calls")
        def calls(scores: Scores) -> Scores:
            return scores * float(forward(torch.ones(2)).sum())

    def tensors() -> Any:
        @extension("score", name="sums")
        def sums(scores: Scores) -> Scores:
            return scores * drawn()

    def built_in() -> Any:
        @extension("score", name="roots")
        def roots(scores: Scores) -> Scores:
            return square_root(relu(scores)) + half

        return roots

    from math import sqrt

    square_root, relu, half = torch.sqrt, torch.relu, sqrt(0.25)
    assert "closes over forward, a module of torch (Linear), which does not" in refused(method)
    assert "closes over drawn, a tensor; pass it as an attribute" in refused(tensors)
    assert built_in().name == "roots"


def test_state_in_the_class() -> None:
    def through_type() -> Any:
        @extension("score", name="counter of all")
        class OfType:  # pyright: ignore[reportUnusedClass]
            calls = 0

            def __call__(self, scores: Scores) -> Scores:
                type(self).calls += 1  # of all
                return scores

    def through_class() -> Any:
        @extension("score", name="counter of all")
        class OfClass:  # pyright: ignore[reportUnusedClass]
            calls = 0

            def __call__(self, scores: Scores) -> Scores:
                self.__class__.calls += 1
                return scores

    assert f"its own attributes when it is called, and calls may come in any order and number; " \
        f"compute what is needed from the arguments ({HERE}:{line_of('of all')})" in refused(
            through_type)  # fmt: skip
    assert "changes its own attributes when it is called" in refused(through_class)


def test_a_setting_of_another_type_and_a_name_that_is_none() -> None:
    def setting() -> Any:
        @extension("gate", name="worded")
        def worded(
            densities: Float64[Tensor, "batch d_in"], k_prompt: str
        ) -> Float64[Tensor, "batch d_in"]:
            return densities

    assert "gate worded annotates k_prompt as str, and is given int (" in refused(setting)
    for name in ("", " ", "two\nlines"):
        assert refused(lambda name=name: extension("score", name=name)).startswith(
            f"the name of an extension is {name!r}; expected a word or a few, on one line"
        )


def test_random_numbers() -> None:
    def write() -> Any:
        @extension("score", name="rolls")
        def rolls(scores: Scores) -> Scores:
            return scores * torch.rand(1, dtype=torch.float64)

    assert "returned other values for equal inputs" in refused(write)


def test_what_the_point_does_not_give() -> None:
    def write() -> Any:
        @extension("gate", name="asks")
        def asks(densites: Float64[Tensor, "batch d_in"]) -> Float64[Tensor, "batch d_in"]:
            return densites

    assert refused(write).startswith(
        "gate asks asks for densites (did you mean 'densities'?), and may ask for counts, lengths"
    )


def test_a_kind_that_there_is_none_of() -> None:
    assert "did you mean 'select'" in refused(lambda: point_of("selct"))


def test_classes() -> None:
    def module() -> Any:
        @extension("score", name="net")
        class Net(nn.Module):  # pyright: ignore[reportUnusedClass]
            def forward(self, scores: Scores) -> Scores:
                return scores

    def state() -> Any:
        @extension("score", name="counter")
        class Counter:  # pyright: ignore[reportUnusedClass]
            def __init__(self) -> None:
                self.calls = 0

            def __call__(self, scores: Scores) -> Scores:
                self.calls += 1  # counter
                return scores

    def unknown() -> Any:
        @extension("score", name="held")
        class Held:  # pyright: ignore[reportUnusedClass]
            def __init__(self, what: dict[str, int]) -> None:
                self.what = what

            def __call__(self, scores: Scores) -> Scores:
                return scores

    assert refused(module).startswith("Net is a module of torch, and an extension is a function or")
    assert refused(state) == (
        "score counter changes its own attributes when it is called, and calls may come in any "
        "order and number; compute what is needed from the arguments "
        f"({HERE}:{line_of('counter')})"
    )
    assert refused(unknown).startswith(
        "Held takes what, whose type is dict[str, int], and is tried"
    )


def test_every_sentence_names_a_line() -> None:
    def write() -> Any:
        @extension("gate", name="wrong")
        def wrong(tau: Float64[Tensor, " d_in"]) -> Float64[Tensor, " d_in"]:
            return tau

    assert re.search(rf"\({re.escape(HERE)}:\d+\)$", refused(write))


def test_what_is_not_registered() -> None:
    found = refused(lambda: check(line_of))
    assert "is not registered; put @dspa_nn.extension(...) above it" in found


def test_what_is_written_through_numpy_is_seen() -> None:
    def write() -> Any:
        @extension("score", name="through")  # through
        def through(scores: Scores) -> Scores:
            scores.numpy()[:] = 0
            return scores.clone()

    assert refused(write) == (
        "score through changed its argument scores in place, which others still read; write to a "
        f"new tensor, as scores.clone() makes one ({HERE}:{line_of('through')})"
    )


def test_state_in_a_default() -> None:
    def write() -> Any:
        @extension("score", name="default")
        def default(scores: Scores, seen: dict[str, int] = {}) -> Scores:  # noqa: B006
            seen["calls"] = 1
            return scores

    assert "has the default seen, a dict, which may change between calls" in refused(write)


def test_an_import_that_a_server_has_not() -> None:
    def write() -> Any:
        @extension("score", name="importing")
        def importing(scores: Scores) -> Scores:
            import math as fine
            import pathlib  # importing

            return scores * fine.sqrt(len(str(pathlib)))

    assert refused(write) == (
        "score importing imports pathlib, and a server has no pathlib; use torch, math, typing, "
        f"collections, operator, enum, numpy alone ({HERE}:{line_of('importing')})"
    )


def test_what_a_class_holds_for_all_its_objects() -> None:
    class Tabled:
        values = [1.0, 2.0]  # noqa: RUF012

        def __call__(self, scores: Scores) -> Scores:
            return scores * self.values[0]

    class Made:
        """A class method that makes objects stays here, and is no mistake."""

        def __init__(self, by: float = 1.0) -> None:
            self.by = by

        @classmethod
        def doubled(cls) -> "Made":
            return cls(2.0)

        def __call__(self, scores: Scores) -> Scores:
            return scores * self.by

    class Slotted:
        __slots__ = ()

        def __call__(self, scores: Scores) -> Scores:
            return scores

    assert "uses values, a list of its class, which does not travel; set self.values in" in refused(
        lambda: extension("score", name="tabled")(Tabled)
    )
    assert "has __slots__" in refused(lambda: extension("score", name="slotted")(Slotted))
    assert extension("score", name="made")(Made) is Made


def test_an_object_that_a_call_changes() -> None:
    class Listing:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def __call__(self, scores: Scores) -> Scores:
            self.seen.append(1)
            return scores

    class Writing:
        def __init__(self, by: Float64[Tensor, "d_out"]) -> None:
            self.by = by

        def __call__(self, scores: Scores) -> Scores:
            self.by[0] = 3.0
            return scores * self.by

    class Counting:
        def __init__(self) -> None:
            self.calls = {"so far": [0]}

        def __call__(self, scores: Scores) -> Scores:
            self.calls["so far"][0] += 1
            return scores

    class Holding:
        def __init__(self) -> None:
            self.rows, self.named = [torch.ones(2), (1, {"a", "b"})], {"by": 2.0}

        def __call__(self, scores: Scores) -> Scores:
            return scores * self.named["by"] * self.rows[0].sum()

    assert extension("score", name="holding")(Holding) is Holding
    assert "changed what it holds as self.calls, and calls may come in any" in refused(
        lambda: extension("score", name="counting")(Counting)
    )
    assert "changed what it holds as self.seen, and calls may come in any" in refused(
        lambda: extension("score", name="listing")(Listing)
    )
    assert "changed what it holds as self.by, and calls may come in any" in refused(
        lambda: extension("score", name="writing")(Writing)
    )


def test_what_cannot_be_read_or_made_is_a_sentence() -> None:
    def unknown(scores: "Unknown") -> Scores:  # pyright: ignore
        return scores

    class Unmade:
        def __init__(self, by: Float64[Tensor, "d_out"]) -> None:
            raise ValueError("two\nlines")

        def __call__(self, scores: Scores) -> Scores:
            return scores

    assert "has an annotation that cannot be read (NameError: name 'Unknown'" in refused(
        lambda: extension("score", name="unknown")(unknown)
    )
    assert "could not be made for the trial (ValueError: two lines); make its" in refused(
        lambda: extension("score", name="unmade")(Unmade)
    )
