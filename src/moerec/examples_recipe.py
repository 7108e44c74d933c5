"""The part of a recipe that makes shards of examples out of raw reviews: rows, texts, tokens, pictures, the engine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from moerec.config import Config, Discovered
from moerec.engines.engine import EngineConfig
from moerec.engines.local import LocalEngineConfig
from moerec.features.reviews import ReviewExamplesConfig
from moerec.features.tokens import TokensConfig
from moerec.features.typed_text import ItemTextConfig, UserTextConfig
from moerec.modalities.fetch_config import FetchConfig
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


class ShardsConfig(Config):
    """How examples are stored."""

    examples: int = Field(default=1024, ge=1)
    """Examples of each shard."""
    url: str | None = None
    """Folder or fsspec address that takes a folder for each part; by default `shards` in the folder of the run."""

    @field_validator("url")
    @classmethod
    def _stays(cls, url: str | None) -> str | None:
        protocol = (url or "").partition("://")[0]
        if protocol == "memory":
            raise ValueError("what is in memory is gone when the run ends; name a folder")
        if protocol in ("http", "https"):
            raise ValueError("a web server takes no files; name a folder or the address of a store")
        return url


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
    engine: Annotated[SerializeAsAny[EngineConfig], Discovered("engine", "examples.engine", default="local")] = (
        LocalEngineConfig()
    )
    """Where the rows are made; all engines make the same."""

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
