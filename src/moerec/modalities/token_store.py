"""Token ids on disk: made once, in parts, read at any key through memory-mapped arrays.

    <store>/manifest.json               tokenizer, layout, settings: what every part was made with
    <store>/<kind>/<part>/*.npy         arrays of `TokenRows`; ids in 16 bits where the vocabulary allows
    <store>/<kind>/<part>/part.json     written with the arrays in one step, so a part is whole or absent
    <store>/<kind>/index.npy            digests of all keys, sorted, with part and row
    <store>/<kind>/kind.json            the list of parts; written last, so a kind is whole or unfinished

A kind is a sort of text: user, item. Parts may be made by several processes; what is finished is not made again.

Shape letters: B texts of a part or of a request, N texts of a kind.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.errors import DatasetError
from moerec.files import atomic_directory, atomic_file, write_json
from moerec.modalities.text_tokenizer import TextTokenizer
from moerec.modalities.token_rows import TokenLayout, TokenRows, joined

Progress = Callable[[int, int], None]
"""Called after each part with the texts and the tokens so far."""

_FORMAT = 1
_MANIFEST, _PART, _KIND, _INDEX = "manifest.json", "part.json", "kind.json", "index.npy"
_ARRAYS = ("ids", "chunk_offsets", "text_offsets", "markers", "marker_offsets", "dropped")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_DIGEST = np.dtype([("high", ">u8"), ("low", ">u8")])
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("part", "<u4"), ("row", "<u4")])


@dataclass(frozen=True)
class TextPart:
    """A piece of work: some texts of one kind."""

    name: str
    """Name of the part, for instance part-00003."""
    fingerprint: str
    """What decides the texts; a finished part with another fingerprint is made again."""
    read: Callable[[], pl.DataFrame]
    """Gives `key` and `text`; called only if the part is not there yet."""


@dataclass(frozen=True)
class StoreManifest:
    """What all tokens of a store were made with."""

    tokenizer: str
    """Name of the tokenizer."""
    identity: str
    """Fingerprint of the tokenizer."""
    layout: TokenLayout
    """Sizes, padding and marker."""
    settings: Mapping[str, Any]
    """The settings of sentences and chunks, as plain data."""

    @classmethod
    def of(cls, tokenizer: TextTokenizer, layout: TokenLayout, settings: Mapping[str, Any]) -> StoreManifest:
        """For a tokenizer; `settings` without its name, for a copy elsewhere gives the same ids."""
        own = {name: value for name, value in settings.items() if name != "tokenizer"}
        return cls(tokenizer.name, tokenizer.identity, layout, own)

    def check(self, other: StoreManifest, folder: Path) -> None:
        """Refuse a store that was made in another way.

        Raises:
            DatasetError: tokenizer, layout or settings differ.
        """
        if self.identity != other.identity:
            raise DatasetError(
                f"{folder}: the tokens were made by another tokenizer ('{self.tokenizer}', not '{other.tokenizer}'); "
                "name that one, or another folder"
            )
        for name in ("layout", "settings"):
            ours, theirs = _plain(getattr(self, name)), _plain(getattr(other, name))
            for key in sorted(ours.keys() | theirs.keys()):
                if ours.get(key) != theirs.get(key):
                    raise DatasetError(
                        f"{folder}: the tokens were made with {key} {ours.get(key)}, not {theirs.get(key)}; "
                        "use the same settings, or another folder"
                    )


def store_tokens(
    folder: Path,
    kinds: Mapping[str, Iterable[TextPart]],
    manifest: StoreManifest,
    tokenise: Callable[[pl.Series], TokenRows],
    progress: Progress | None = None,
) -> dict[str, dict[str, int]]:
    """Make the tokens of all parts that are not there yet, and the index of each kind.

    Args:
        folder: the store, new or unfinished or finished.
        kinds: the parts of each kind of text.
        manifest: what the tokens are made with.
        tokenise: gives the tokens of a part's texts.
        progress: told after each part.

    Returns:
        for each kind the numbers of texts, tokens, sentences, dropped sentences, and of parts made by this call.

    Raises:
        DatasetError: the store was made in another way, or a key is null or stands twice in a kind.
    """
    begin_store(folder, manifest)
    summary: dict[str, dict[str, int]] = {}
    texts = tokens = 0
    for kind, parts in kinds.items():
        made, names = 0, []
        for part in parts:
            made += write_part(folder, kind, part, manifest, tokenise)
            names.append(part.name)
            if progress is not None:
                told = _read_json(folder / kind / part.name / _PART)
                texts, tokens = texts + told["texts"], tokens + told["tokens"]
                progress(texts, tokens)
        summary[kind] = finish_kind(folder, kind, names) | {"made": made}
    return summary


def begin_store(folder: Path, manifest: StoreManifest) -> None:
    """Write the manifest of a new store, or check that of one which is there."""
    if (folder / _MANIFEST).is_file():
        _read_manifest(folder).check(manifest, folder)
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise DatasetError(f"{folder}: there is something else already; choose a new folder")
    write_json(folder / _MANIFEST, {"format": _FORMAT, **asdict(replace(manifest, settings=dict(manifest.settings)))})


def write_part(
    folder: Path, kind: str, part: TextPart, manifest: StoreManifest, tokenise: Callable[[pl.Series], TokenRows]
) -> bool:
    """Make one part, unless it is there; whether it was made."""
    for name in (kind, part.name):
        if not _NAME.fullmatch(name):
            raise DatasetError(f"'{name}' cannot name a folder of tokens; use letters, digits, '-' and '_'")
    target = folder / kind / part.name
    if (target / _PART).is_file() and _read_json(target / _PART)["fingerprint"] == part.fingerprint:
        return False
    frame = part.read()
    if frame["key"].null_count():
        raise DatasetError(f"{target}: a text has no key; give each text one")
    rows = tokenise(frame["text"])
    arrays = {name: getattr(rows, name) for name in _ARRAYS}
    arrays["ids"] = rows.ids.astype(_ids_type(manifest.layout.vocabulary), copy=False)
    arrays["keys"] = _digests(frame["key"].to_list())
    counts = {
        "texts": len(rows),
        "tokens": len(rows.ids),
        "sentences": len(rows.markers),
        "dropped_sentences": int(rows.dropped.sum()),
    }
    with atomic_directory(target) as temporary:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        write_json(temporary / _PART, {"fingerprint": part.fingerprint, **counts})
    return True


def finish_kind(folder: Path, kind: str, names: Sequence[str]) -> dict[str, int]:
    """Index the parts of a kind by key and list them; parts that are not named are removed."""
    place = folder / kind
    told = {name: _read_json(place / name / _PART) for name in names}
    counted = ("texts", "tokens", "sentences", "dropped_sentences")
    counts = {count: sum(entry[count] for entry in told.values()) for count in counted}
    content = {"parts": {name: entry["fingerprint"] for name, entry in told.items()}, **counts}
    if (
        (place / _KIND).is_file()
        and _read_json(place / _KIND) == content
        and list(content["parts"]) == list(_read_json(place / _KIND)["parts"])
    ):
        return counts
    place.mkdir(parents=True, exist_ok=True)
    (place / _KIND).unlink(missing_ok=True)
    index = np.zeros(counts["texts"], _ENTRY)  # [N]
    first = 0
    for number, (name, entry) in enumerate(told.items()):
        own = index[first : first + entry["texts"]]
        keys = np.load(place / name / "keys.npy", allow_pickle=False)
        own["high"], own["low"], own["part"], own["row"] = keys["high"], keys["low"], number, np.arange(len(keys))
        first += entry["texts"]
    index = index[np.lexsort((index["low"], index["high"]))]
    same = (index["high"][1:] == index["high"][:-1]) & (index["low"][1:] == index["low"][:-1])
    if same.any():
        entry = index[1:][same][0]
        raise DatasetError(
            f"{place}: {int(same.sum())} keys stand twice, one in row {entry['row']} of {names[entry['part']]}; "
            "give each text its own key"
        )
    with atomic_file(place / _INDEX) as temporary, temporary.open("wb") as stream:
        np.save(stream, index, allow_pickle=False)
    write_json(place / _KIND, content)
    for path in place.iterdir():
        if path.is_dir() and path.name not in told:
            shutil.rmtree(path)
    return counts


@dataclass(frozen=True)
class TokenStore:
    """Reads tokens by key. It holds paths and maps files when they are asked for, so it can be sent to any process."""

    folder: Path
    """The store."""
    _open: dict[str, _Kind] = field(default_factory=dict, repr=False, compare=False)

    @property
    def manifest(self) -> StoreManifest:
        """What the tokens were made with."""
        return _read_manifest(self.folder)

    @property
    def layout(self) -> TokenLayout:
        """Sizes, padding and marker."""
        return self.manifest.layout

    def texts(self, kind: str) -> int:
        """Number of texts of a kind."""
        return len(self._kind(kind).index)

    def rows(self, kind: str, keys: Sequence[str] | pl.Series) -> TokenRows:
        """The tokens of texts, in the order of the keys; a key may be asked for repeatedly.

        Raises:
            DatasetError: a key or the kind is not there.
        """
        return self._kind(kind).rows(list(keys))

    def has(self, kind: str, keys: Sequence[str] | pl.Series) -> NDArray[np.bool_]:
        """Whether each key is there [B]."""
        places: NDArray[np.bool_] = self._kind(kind).find(_digests(list(keys))) >= 0
        return places

    def _kind(self, kind: str) -> _Kind:
        if kind not in self._open:
            self._open[kind] = _Kind.load(self.folder, kind)
        return self._open[kind]

    def __getstate__(self) -> dict[str, Any]:
        """The folder alone: a mapped file would be sent as a copy."""
        return {"folder": self.folder, "_open": {}}


@dataclass(frozen=True)
class _Kind:
    """The mapped files of one kind."""

    place: Path
    index: NDArray[np.void]
    parts: tuple[TokenRows, ...]

    @classmethod
    def load(cls, folder: Path, kind: str) -> _Kind:
        if not (folder / kind / _KIND).is_file():
            whole = sorted(path.parent.name for path in folder.glob(f"*/{_KIND}"))
            known = f"finished kinds: {', '.join(whole)}" if whole else "it has no finished kind"
            raise DatasetError(f"{folder}: no finished tokens of kind '{kind}'; {known}; make them first")
        place = folder / kind
        parts = [
            TokenRows(**{name: _mapped(place / part / f"{name}.npy") for name in _ARRAYS})
            for part in _read_json(place / _KIND)["parts"]
        ]
        return cls(place, _mapped(place / _INDEX), tuple(parts))

    def find(self, keys: NDArray[np.void]) -> NDArray[np.int64]:
        """The place in the index of each key [B], -1 where it is not there."""
        high, low = keys["high"].astype(np.uint64), keys["low"].astype(np.uint64)
        found = np.full(len(keys), -1, np.int64)
        place = np.searchsorted(self.index["high"], high)
        # Keys that share their first half stand beside each other; hardly ever more than one turn.
        open_rows = np.arange(len(keys))
        while len(open_rows := open_rows[place[open_rows] < len(self.index)]):
            entries = self.index[place[open_rows]]
            near = entries["high"] == high[open_rows]
            equal = near & (entries["low"] == low[open_rows])
            found[open_rows[equal]] = place[open_rows[equal]]
            open_rows = open_rows[near & ~equal]
            place[open_rows] += 1
        return found

    def rows(self, keys: list[str]) -> TokenRows:
        found = self.find(_digests(keys))
        if (found < 0).any():
            key = keys[int(np.argmax(found < 0))]
            raise DatasetError(
                f"{self.place}: {int((found < 0).sum())} of {len(keys)} keys have no tokens, first '{key}'; "
                "make the tokens of all texts first"
            )
        entries = self.index[found]
        order = np.argsort(entries["part"], kind="stable")
        blocks = [
            self.parts[part].take(entries["row"][order][entries["part"][order] == part].astype(np.int64))
            for part in np.unique(entries["part"])
        ]
        back = np.empty(len(keys), np.int64)
        back[order] = np.arange(len(keys))
        rows = joined(blocks)
        rows = replace(rows, ids=rows.ids.astype(np.int32, copy=False))
        return rows if len(blocks) < 2 else rows.take(back)


def _ids_type(vocabulary: int) -> type[np.uint16] | type[np.int32]:
    return np.uint16 if vocabulary <= 2**16 else np.int32


def _digests(keys: Sequence[str]) -> NDArray[np.void]:
    """16 bytes of each key, as two numbers whose order is that of the bytes."""
    content = b"".join(hashlib.blake2b(str(key).encode(), digest_size=16).digest() for key in keys)
    return np.frombuffer(content, _DIGEST)


def _mapped(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            f"{path}: the file is missing or damaged ({error}); remove its folder and run again"
        ) from None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); remove its folder and run again") from None


def _read_manifest(folder: Path) -> StoreManifest:
    if not (folder / _MANIFEST).is_file():
        raise DatasetError(f"{folder}: there is no token store; make one first")
    values = _read_json(folder / _MANIFEST)
    if values.pop("format", None) != _FORMAT:
        raise DatasetError(f"{folder}: a token store of another version; make it again")
    return StoreManifest(**values | {"layout": TokenLayout(**values["layout"])})


def _plain(value: Any) -> dict[str, Any]:
    """As it comes back from JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(value) if isinstance(value, TokenLayout) else dict(value)))
    return plain
