"""The talk as a person sees it: two columns that fill as answers are made."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dspa_nn.chat.talk import Piece
from dspa_nn.chat.why import Reason

# Below this width the answers stand one under the other.
SIDE_BY_SIDE = 60
# Seconds between two drawings of the same answers: faster is not seen, and slow where far away.
BETWEEN = 0.1


class Screen:
    """Prints the talk on a console, and draws answers while they come where it is a terminal.

    >>> screen = Screen(Console(width=80))
    >>> screen.say("hello")
    hello
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str, style: str = "") -> None:
        """Print a line as it is."""
        self.console.print(Text(text, style=style))

    def answers(self, pieces: Iterator[Piece], heads: tuple[str, str]) -> None:
        """Show both answers, in columns with these heads; on a terminal, as they are made."""
        said = {"unsteered": "", "steered": ""}
        stream: Any = pieces
        with closing(stream):
            if not self.console.is_terminal:
                for piece in pieces:
                    said[piece.side] += piece.text
            else:
                # What is drawn is taken away again, and printed once it is whole: an answer that
                # is longer than the screen could not be redrawn.
                with Live(console=self.console, transient=True, auto_refresh=False) as live:
                    live.update(self._columns(said, heads), refresh=True)
                    drawn = time.monotonic()
                    for piece in pieces:
                        said[piece.side] += piece.text
                        if time.monotonic() > drawn + BETWEEN:
                            live.update(self._columns(said, heads), refresh=True)
                            drawn = time.monotonic()
        self.console.print(self._columns(said, heads))

    def _columns(self, said: dict[str, str], heads: tuple[str, str]) -> RenderableType:
        texts = [Text(said[side].strip() or "...") for side in ("unsteered", "steered")]
        titles = [Text(head, style="bold") for head in heads]
        if self.console.width < SIDE_BY_SIDE:
            table = Table.grid(padding=(0, 0, 1, 0), expand=True)
            for title, text in zip(titles, texts, strict=True):
                table.add_row(Text.assemble(title, "\n", text))
            return table
        table = Table(box=None, expand=True, padding=(0, 1), pad_edge=False)
        for title in titles:
            table.add_column(title, ratio=1, overflow="fold")
        table.add_row(*texts)
        return table

    def why(self, reasons: Sequence[Reason]) -> None:
        """Print the latents behind an answer, a line or two each."""
        for reason in reasons:
            times = "once" if reason.edits == 1 else f"{reason.edits} times"
            head = Text(f"output latent {reason.latent}", style="bold")
            self.console.print(head + Text(f", {reason.direction} {times}: {reason.words}"))
            for latent, words in reason.because:
                self.console.print(Text(f"  because of input latent {latent}: {words}"))

    def lines(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print names with what they mean, in two columns."""
        table = Table.grid(padding=(0, 2))
        for name, meaning in rows:
            table.add_row(Text(name, style="bold", no_wrap=True), Text(meaning))
        self.console.print(table)
