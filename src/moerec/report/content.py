"""What the page is made of: tables, figures and short texts, without any markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup


@dataclass(frozen=True)
class Column:
    """A column of a table; neighbours with an equal group share a heading above their own."""

    label: str
    group: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a smaller note beside it, and whether it is the best of its column."""

    text: str
    note: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A row with its heading."""

    label: str
    cells: Sequence[Cell]
    emphasised: bool = False


@dataclass(frozen=True)
class Table:
    """A table with a caption; `corner` heads the column of row headings."""

    caption: str
    corner: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes_below: bool = False
    """Whether the note of a cell stands under its text, which keeps a table of many columns narrow."""

    @property
    def is_wide(self) -> bool:
        """Whether it needs the whole width of the page."""
        return len(self.columns) > (2 if any(column.is_text for column in self.columns) else 5)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The group headings with the number of columns that each spans; empty if there are none."""
        found = [(name, len(list(members))) for name, members in groupby(self.columns, key=lambda column: column.group)]
        return found if any(name for name, _ in found) else []


@dataclass(frozen=True)
class Figure:
    """A chart with a caption."""

    chart: Markup
    caption: str

    @property
    def is_wide(self) -> bool:
        """Whether the chart needs the whole width of the page."""
        return 'class="chart wide"' in self.chart


@dataclass(frozen=True)
class Folded:
    """What is shown on request: a summary, then tables or verbatim text."""

    summary: str
    tables: Sequence[Table] = ()
    verbatim: str = ""


@dataclass(frozen=True)
class ExampleItem:
    """An item in a history or a list."""

    title: str
    details: str = ""
    when: str = ""
    rank: str = ""
    score: str = ""
    hit: bool = False


@dataclass(frozen=True)
class ExampleUser:
    """A user with the end of the history, the recommended list and what was held out."""

    summary: str
    outcome: str
    """What became of the held-out item."""
    found: bool
    """Whether the held-out item is in the list."""
    earlier: int
    """How many items of the history come before those shown."""
    history: Sequence[ExampleItem]
    """The end of the history, most recent last."""
    recommended: Sequence[ExampleItem]


@dataclass(frozen=True)
class ExampleCase:
    """One prediction: what the model saw, what it said of each task, what really happened."""

    summary: str
    outcome: str
    """What was recorded, and what was predicted."""
    earlier: int
    """How many items of the history come before those shown."""
    history: Sequence[ExampleItem]
    """The end of the history, most recent last; `score` holds the label."""
    predictions: Table | None = None
    figure: Figure | None = None
    """Which expert spoke."""
    features: Sequence[tuple[str, str]] = ()
    """Inputs by name."""


@dataclass(frozen=True)
class Part:
    """What belongs together within a section, under a heading of its own."""

    title: str
    texts: Sequence[str] = ()
    notices: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    folded: Sequence[Folded] = ()


@dataclass(frozen=True)
class Block:
    """A section of the page, its parts in the order in which they are shown; what is empty is left out."""

    key: str
    """The anchor."""
    title: str
    texts: Sequence[str] = ()
    commands: Sequence[str] = ()
    """What to type."""
    notices: Sequence[str] = ()
    """What a reader must not overlook."""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    terms: Sequence[tuple[str, str]] = ()
    """Pairs of a term and its explanation."""
    points: Sequence[str] = ()
    points_title: str = ""
    parts: Sequence[Part] = ()
    users: Sequence[ExampleUser] = ()
    cases: Sequence[ExampleCase] = ()
    folded: Sequence[Folded] = ()
    stage: str = ""
    """To which stage of the recommender the section belongs; empty where there is only one."""
