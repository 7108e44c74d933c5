"""Amazon reviews with their products: the releases of 2023, 2018 and 2014, any categories in one data set.

Files are read in chunks of lines, so the memory is that of the finished tables. Items are products (`parent_asin`),
labels are the rating, whether the purchase is verified, and how many found the review helpful. The helpful votes came
after the review, so they are no input of it either. Texts of reviews stand beside the events, see `RawTables.texts`.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.generators.image_server import HOST, ImageServer, ImageServerConfig
from moerec.dataset.schema import REJECT_COLUMNS, RawTables
from moerec.dataset.sources.amazon_download import (
    Wanted,
    copy_files,
    default_url,
    download_files,
    downloads_of,
    identities_at,
    is_in_mirror,
)
from moerec.dataset.sources.amazon_files import CategoryFiles, Metadata, find_files
from moerec.dataset.sources.amazon_rows import (
    ITEM_SCHEMA,
    REPEATED_ITEM,
    REPEATED_REVIEW,
    REVIEW_NAMES,
    REVIEW_SCHEMA,
    Year,
    item_row,
    json_or_python,
    review_row,
)
from moerec.dataset.sources.columns import LINE, LONGEST_RAW_ROW, Table, join_tables, require_rows
from moerec.dataset.sources.json_lines import read_json_lines
from moerec.dataset.storage import Storage, is_address
from moerec.errors import DatasetError

logger = logging.getLogger(__name__)

LICENCE = (
    "Amazon reviews, collected by the McAuley Lab (UC San Diego); published for research without a licence text; "
    "generated reviews need no licence"
)
FILE = "__file__"
"""Hidden column: name of the file of a row."""
TEXTS = ("review_title", "review_text")
LABELS = ("rating", "verified", "helpful")
DEFAULT_USERS, DEFAULT_ITEMS = 200, 120
_OF_GENERATED = ("users", "items", "seed", "dirt", "pictures", "picture_faults", "picture_port")
_CATEGORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_&'-]*")


class AmazonReviewsConfig(Config):
    """Amazon reviews 2023, 2018 or 2014 from local files: labels rating, verified, helpful; products as items."""

    variant: Literal["published", "generated"] = "published"
    """published (files of the McAuley Lab), generated (planted structure in the form of 2023, no files)."""
    year: Year = 2023
    """The release: 2023, 2018 or 2014."""
    categories: tuple[str, ...] = ()
    """Categories as in the names of the files, for instance [All_Beauty, Gift_Cards]; by default all that are there."""
    path: str | None = None
    """Folder that holds the files, named as they were published, gzipped or plain, or an address that fsspec knows,
    such as s3://bucket/folder; by default amazon-<year> in MOEREC_MIRROR."""
    download: bool = False
    """Whether files that are not there are downloaded, into `path` or the cache; `categories` must be named then."""
    url: str | None = None
    """For `download`: address below which the files lie, by default the dataset's folder on the model hub for 2023. The
    token in HF_TOKEN is shown to the hub alone."""
    core: bool | None = None
    """For 2018 and 2014: true reads the 5-core (<C>_5.json), false all reviews; by default the one that is there."""
    metadata: Metadata = "required"
    """Files of products: required, optional (a category without one has bare items), none (not read)."""
    review_texts: bool = True
    """Whether titles and texts of reviews are kept beside the events; without them a large category takes less room."""
    users: int = Field(default=DEFAULT_USERS, ge=1)
    """For `generated`: number of users."""
    items: int = Field(default=DEFAULT_ITEMS, ge=4)
    """For `generated`: number of products."""
    seed: int = Field(default=0, ge=0)
    """For `generated`: seed of everything that is drawn."""
    dirt: float = Field(default=0.0, ge=0, le=1)
    """For `generated`: share of lines beside which a broken copy stands."""
    pictures: bool = False
    """For `generated`: a picture of each product, served on this machine while `examples` are made."""
    picture_faults: float = Field(default=0.0, ge=0, le=1)
    """For `generated`: share of the addresses of pictures that fail, each in one of many ways."""
    picture_port: int = Field(default=8765, ge=1, le=65535)
    """For `generated`: port of 127.0.0.1 where the pictures are served; it stands in their addresses."""

    @model_validator(mode="after")
    def _check(self) -> AmazonReviewsConfig:
        if self.variant == "generated":
            if self.path is not None or self.categories or self.year != 2023 or self.core is not None:
                raise ValueError("the variant 'generated' reads no files; remove path, categories, year and core")
            if self.download or self.url is not None:
                raise ValueError("the variant 'generated' reads no files; remove download and url")
            return self
        own = [name for name in _OF_GENERATED if getattr(self, name) != type(self).model_fields[name].default]
        if own:
            raise ValueError(f"{own[0]} belongs to the variant 'generated'; remove it")
        if len(set(self.categories)) < len(self.categories):
            raise ValueError("categories: one is named twice; name each once")
        for category in self.categories:
            if not _CATEGORY.fullmatch(category):
                raise ValueError(f"categories: '{category}' is no part of a file name; write it as in All_Beauty")
        if self.core is not None and self.year == 2023:
            raise ValueError("core: the files of 2023 that are read hold all reviews; remove core")
        self._check_places()
        return self

    def _check_places(self) -> None:
        if self.path is not None and is_address(self.path):
            if Storage(self.path).is_http:
                raise ValueError("path: a web server does not list its files; write `url` instead, and download: true")
            if self.download:
                raise ValueError(
                    "download: files go into a folder on this machine; remove `download`, or change `path`"
                )
        if self.url is not None and not self.download:
            raise ValueError("url: nothing is downloaded; write download: true, or remove url")
        if self.download and not self.categories:
            raise ValueError(
                "download: name the `categories`, for instance [All_Beauty]; all are hundreds of gigabytes"
            )
        if self.download and (self.url or default_url(self.year)) is None:
            raise ValueError(f"download: no default place has the files of {self.year}; write `url`")

    def read(self) -> RawTables:
        """Read the files.

        Raises:
            DatasetError: a file is missing, or has no good row.
        """
        if self.variant == "generated":
            with tempfile.TemporaryDirectory(prefix="moerec-") as folder:
                return self._tables(self._generate(Path(folder) / "generated"), {"seed": self.seed})
        found = self._find()
        identities = [
            file.identity() for files in found for file in (files.reviews, files.products) if file is not None
        ]
        return self._tables(found, {"files": identities})

    @contextmanager
    def raw_files(self, folder: Path, *, pictures: bool = True) -> Iterator[list[CategoryFiles]]:
        """The files themselves; generated ones stand in a folder, and their pictures are served meanwhile.

        Args:
            folder: for generated files; those that are there are taken.
            pictures: whether anybody will ask for pictures.

        Raises:
            DatasetError: a file is missing, or the port of the pictures is taken.
        """
        if self.variant != "generated":
            yield self._find()
            return
        found = self._generate(folder)
        if not (self.pictures and pictures):
            yield found
            return
        server = ImageServer(folder, ImageServerConfig(self.picture_faults, seed=self.seed), self.picture_port)
        with ExitStack() as opened:
            try:
                opened.enter_context(server)
            except DatasetError as error:
                raise DatasetError(f"dataset.picture_port: {error}") from None
            yield found

    def _generate(self, folder: Path) -> list[CategoryFiles]:
        """The generated files, made if they are not there."""
        address = f"http://{HOST}:{self.picture_port}" if self.pictures else None
        shape = GeneratedReviews(
            users=self.users,
            items=self.items,
            seed=self.seed,
            dirt=self.dirt,
            compressed=False,
            image_address=address,
        )
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            generate_amazon_reviews(folder, shape)
        return find_files(2023, shape.categories, str(folder), None, "required")

    def check(self) -> None:
        """Find out whether the files are there.

        Raises:
            DatasetError: one is missing.
        """
        if self.variant != "generated":
            self._find()

    def describe(self) -> str:
        """One line that says what is read."""
        if self.variant == "generated":
            return f"generated: reviews of {self.items:,} products by {self.users:,} users, seed {self.seed}"
        categories = ", ".join(self.categories) or "all categories"
        return f"Amazon reviews {self.year}: {categories}" + (f" in {self.path}" if self.path else "")

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The settings that decide the content, and the content of the files; what is elsewhere counts by its name."""
        settings = self.model_dump(mode="json", exclude={"path", "download", "url"})
        if self.variant == "generated":
            return settings
        if self.path is not None and is_address(self.path):
            return settings | {"files": identities_at(self.path, self._wanted)}
        if self.download and not (self.path is None and is_in_mirror(self._wanted)):
            # By name, so that what was made of it is found again whether the download is still there or not.
            return settings | {"url": self._url}
        found = find_files(self.year, self.categories, self._local, self.core, self.metadata)
        identities = [
            None if file is None else file.identity() for files in found for file in (files.reviews, files.products)
        ]
        return settings | {"categories": [files.category for files in found], "files": identities}

    @property
    def _local(self) -> str | None:
        """`path`, without the `file://` that may stand before it."""
        local = None if self.path is None else Storage(self.path).local
        return self.path if local is None else str(local)

    @property
    def _url(self) -> str:
        return self.url or default_url(self.year) or ""

    @property
    def _wanted(self) -> Wanted:
        return Wanted(self.year, self.categories, self.core, self.metadata)

    def _find(self) -> list[CategoryFiles]:
        """The files on this machine, brought here if need be."""
        path = self._local
        if path is not None and is_address(path):
            path = str(copy_files(path, self._wanted))
        elif self.download and not (path is None and is_in_mirror(self._wanted)):
            folder = downloads_of(self.year, self._url) if path is None else Path(path).expanduser()
            download_files(self._url, folder, self._wanted)
            path = str(folder)
        return find_files(self.year, self.categories, path, self.core, self.metadata)

    def _tables(self, found: Sequence[CategoryFiles], origin: dict[str, Any]) -> RawTables:
        nulled: Counter[str] = Counter()
        reviews = _first_of_each(
            join_tables([self._reviews(files) for files in found]), ["user_id", "item_id", "timestamp"], REPEATED_REVIEW
        )
        parts = [_products(files, self.year, nulled) for files in found if files.products is not None]
        products = _first_of_each(join_tables(parts), ["item_id"], REPEATED_ITEM) if parts else None
        items, bare = _catalogue(reviews.frame, None if products is None else products.frame)
        nulled += Counter()  # only what happened
        for what, count in nulled.items():
            logger.info("Amazon reviews: %d %s are left empty", count, what)
        without = [files.category for files in found if files.products is None]
        if without and self.metadata == "optional":
            logger.warning("Amazon reviews: no products of %s; their items have a category alone", ", ".join(without))
        labels = tuple(name for name in LABELS if REVIEW_NAMES[self.year].verified or name != "verified")
        return RawTables(
            events=reviews.frame.drop(LINE, FILE, "category").drop(*(name for name in LABELS if name not in labels)),
            items=items,
            rejects=pl.concat([reviews.rejects] if products is None else [reviews.rejects, products.rejects]),
            labels=labels,
            texts=TEXTS if self.review_texts else (),
            source={
                "name": "amazon-reviews-generated" if self.variant == "generated" else f"amazon-reviews-{self.year}",
                "source": "amazon_reviews",
                "variant": self.variant,
                "categories": [files.category for files in found],
                "licence": LICENCE,
                "left_empty": dict(nulled),
                "categories_without_products": without,
                "items_without_product": bare,
            }
            | origin,
        )

    def _reviews(self, files: CategoryFiles) -> Table:
        """The reviews of a category with the hidden columns LINE and FILE, and its name."""
        dropped = () if self.review_texts else TEXTS
        chunks = [
            Table(chunk.frame.drop(dropped), chunk.rejects)
            for chunk in read_json_lines(
                files.reviews, REVIEW_SCHEMA, partial(review_row, names=REVIEW_NAMES[self.year])
            )
        ]
        return _named(chunks, files.category, files.reviews.name)


def _products(files: CategoryFiles, year: int, nulled: Counter[str]) -> Table:
    """The products of a category with the hidden columns LINE and FILE, and its name."""
    assert files.products is not None
    loads: Callable[[str], Any] = json_or_python if year == 2014 else json.loads
    chunks = list(read_json_lines(files.products, ITEM_SCHEMA, partial(item_row, nulled=nulled), loads))
    return _named(chunks, files.category, files.products.name)


def _named(chunks: Sequence[Table], category: str, file: str) -> Table:
    if not chunks:
        raise DatasetError(f"{file}: the file is empty; get it again")
    table = require_rows(join_tables(chunks), file)
    return Table(table.frame.with_columns(category=pl.lit(category), **{FILE: pl.lit(file)}), table.rejects)


def _first_of_each(table: Table, key: list[str], reason: str) -> Table:
    """The first row of each key; the later ones become rejects."""
    is_first = pl.struct(key).is_first_distinct()
    repeated = table.frame.filter(~is_first)
    if not repeated.height:
        return table
    rows = [json.dumps(row, ensure_ascii=False) for row in repeated.drop(LINE, FILE).iter_rows(named=True)]
    rejects = pl.DataFrame(
        {
            "source": repeated[FILE],
            "line": repeated[LINE],
            "reason": [reason] * repeated.height,
            "row": pl.Series(rows, dtype=pl.String).str.slice(0, LONGEST_RAW_ROW),
        },
        schema=REJECT_COLUMNS,
    )
    return Table(table.frame.filter(is_first), pl.concat([table.rejects, rejects]))


def _catalogue(reviews: pl.DataFrame, products: pl.DataFrame | None) -> tuple[pl.DataFrame, int]:
    """The products, and the items of reviews that have none (with their category alone), which are counted."""
    met = reviews.select("item_id", "category").unique("item_id", keep="first", maintain_order=True)
    if products is None:
        return met, met.height
    known = products.drop(LINE, FILE)
    bare = met.join(known.select("item_id"), on="item_id", how="anti")
    return pl.concat([known, bare], how="diagonal"), bare.height
