"""What every engine is to a recipe: something that makes the rows of examples from raw files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from moerec.config import Config
from moerec.dataset.sources.amazon_files import CategoryFiles
from moerec.dataset.sources.amazon_rows import Year
from moerec.features.reviews import ReviewExamplesConfig


class EngineConfig(Config):
    """Base of engines; all of them make the same rows, bit for bit."""

    @abstractmethod
    def make(
        self, files: Sequence[CategoryFiles], year: Year, config: ReviewExamplesConfig, out: Path, seed: int
    ) -> None:
        """Fill a folder as `moerec.engines.example_folder` describes it; what is there already is not made again.

        Args:
            files: the raw files, from `find_files`.
            year: the release.
            config: the rule of the examples.
            out: the folder.
            seed: of down-sampling and negatives.

        Raises:
            DatasetError: a file cannot be read, or has not one good review.
        """
