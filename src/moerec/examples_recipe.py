"""The part of a recipe that makes shards of examples out of raw reviews: rows, texts, tokens, pictures, the engine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from moerec.config import Config
from moerec.features.reviews import ReviewExamplesConfig
from moerec.features.tokens import TokensConfig
from moerec.features.typed_text import ItemTextConfig, UserTextConfig
from moerec.modalities.fetch import FetchConfig
from moerec.modalities.pictures import PictureConfig


class PicturesConfig(PictureConfig):
    """The pictures of the items: fetched by address, brought to one size."""

    patches: bool = False
    """Store arrays as patches of 16 x 16, in rows from the upper left; needs `form: array` and a size that divides."""
    fetch: FetchConfig = FetchConfig()
    """How they are fetched."""

    @model_validator(mode="after")
    def _check_patches(self) -> PicturesConfig:
        if self.patches and self.form != "array":
            raise ValueError("patches are numbers; write form: array")
        if self.patches and self.size % 16:
            raise ValueError(f"a size of {self.size} is no multiple of the 16 of a patch; take 224")
        return self


class EngineConfig(Config):
    """Where the rows are made."""

    kind: Literal["local", "beam"] = "local"
    """local: this machine, with files between the steps; beam: an Apache Beam pipeline. Both make the same rows."""
    partitions: int = Field(default=16, ge=1)
    """Pieces of the users, each of which must fit into memory."""
    processes: int | None = Field(default=None, ge=1)
    """For local: processes; null takes one for each core."""
    options: tuple[str, ...] = ()
    """For beam: options of the pipeline as on its command line, for instance [--runner=FlinkRunner]."""

    @model_validator(mode="after")
    def _check(self) -> EngineConfig:
        if self.kind == "local" and self.options:
            raise ValueError("options belong to kind: beam; remove them")
        if self.kind == "beam" and self.processes is not None:
            raise ValueError("processes belong to kind: local; a Beam runner has options of its own")
        return self


class ShardsConfig(Config):
    """How examples are stored."""

    examples: int = Field(default=1024, ge=1)
    """Examples of each shard."""
    url: str | None = None
    """Folder or fsspec address that takes a folder for each part; by default `shards` in the folder of the run."""


class ExamplesConfig(ReviewExamplesConfig):
    """From raw reviews to training shards: causal rows, texts, tokens, pictures."""

    user_text: UserTextConfig = UserTextConfig()
    """The text of a user before a review."""
    item_text: ItemTextConfig = ItemTextConfig()
    """The text of an item."""
    tokens: TokensConfig | None = None
    """Token ids of both texts, beside them; null for texts alone."""
    pictures: PicturesConfig | None = None
    """The picture of the item; null for none."""
    shards: ShardsConfig = ShardsConfig()
    """How examples are stored."""
    engine: EngineConfig = EngineConfig()
    """Where the rows are made."""

    @model_validator(mode="after")
    def _check_history(self) -> ExamplesConfig:
        if self.user_text.reviews > self.history:
            raise ValueError(
                f"user_text.reviews: {self.user_text.reviews}, but an example refers to {self.history} reviews; "
                "raise history"
            )
        return self

    @property
    def rule(self) -> ReviewExamplesConfig:
        """What decides the rows."""
        return ReviewExamplesConfig(**{name: getattr(self, name) for name in ReviewExamplesConfig.model_fields})
