"""Sources: what a data set is read from. Each is a configuration that gives `RawTables`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from moerec.dataset.schema import RawTables


@runtime_checkable
class Source(Protocol):
    """What every source configuration can do; packages add their own by the entry point `moerec.source`."""

    def read(self) -> RawTables:
        """Read everything, in file order; rows that cannot be used are in `rejects`.

        Raises:
            DatasetError: missing, damaged, empty, or not what it claims to be.
        """
        ...

    def describe(self) -> str:
        """One line that says what is read."""
        ...

    def fingerprint_inputs(self) -> dict[str, Any]:
        """Plain data that decides the content, so that what was prepared from it is found again.

        Local files count by their content, what is to be downloaded by its name and version; nothing is
        downloaded here.

        Raises:
            DatasetError: a file that the configuration names is missing.
        """
        ...
