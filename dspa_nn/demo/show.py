"""What all of the demo's print is made of: a console, headings, tables that are never cut."""

from collections.abc import Callable, Mapping

from rich import box
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from dspa_nn.evaluation import Interval

# Columns of a console: every table fits in the fewest, and prose is no wider than the most.
NARROWEST, WIDEST = 80, 100
NAME = 21  # columns of a method's name


def terminal() -> Console:
    """A console on standard output that no table loses a column in: from 80 to 100 columns.

    Example:
        >>> 80 <= terminal().width <= 100
        True
    """
    console = Console()
    console.width = min(max(console.width, NARROWEST), WIDEST)
    return console


def section(console: Console, title: str, text: str = "") -> None:
    """A heading, with a line or two on what follows."""
    console.print()
    console.print(Rule(Text(title, style="bold"), align="left", style="dim"))
    if text:
        note(console, text)


def note(console: Console, text: str) -> None:
    """A remark, dimmed."""
    console.print(Text(text, style="dim"))


def grid(*headers: str, name: str = "") -> Table:
    """An empty table: a column of names, and figures to the right that are never cut."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True
    )
    table.add_column(name, min_width=NAME, max_width=NAME)
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True, overflow="fold")
    return table


def cell(interval: Interval, form: Callable[[float], str] = "{:+.3f}".format) -> Text:
    """A mean above its interval.

    Example:
        >>> print(cell(Interval(0.5, 0.25, 0.75, 10)).plain)
        +0.500
        +0.250 +0.750
    """
    if not interval.n:
        return Text("-", style="dim")
    text = Text(form(interval.mean))
    text.append(f"\n{form(interval.low)} {form(interval.high)}", style="dim")
    return text


def timings(console: Console, seconds: Mapping[str, float], memory: float) -> None:
    """Seconds of each stage, and the most memory that was held."""
    parts = ", ".join(f"{name} {elapsed:.0f} s" for name, elapsed in seconds.items())
    console.print()
    note(console, f"{parts}: {sum(seconds.values()):.0f} s, at most {memory:.1f} GB")
