"""Tables that fit the terminal they are shown on."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

_ROOMY = 1000  # columns: a table that is measured with so many says what it would like to have


class Fitting:
    """The first of several tables that has room, widest first; the last if none has."""

    def __init__(self, *tables: Table) -> None:
        self._tables = tables

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose, when rich asks."""
        *others, last = self._tables
        roomy = options.update(width=_ROOMY)
        fitting = (table for table in others if console.measure(table, options=roomy).maximum <= options.max_width)
        yield next(fitting, last)
