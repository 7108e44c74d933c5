"""The section of example users: what they saw, what was recommended, and where the held-out item stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moerec.report.content import Block, ExampleItem, ExampleUser
from moerec.report.labels import as_number, count, number, plural

_HISTORY_SHOWN = 12


def people(examples: Sequence[Mapping[str, Any]]) -> Block | None:
    """Example users in the order of the file; None without any."""
    users = [_user(example) for example in examples]
    if not users:
        return None
    return Block(
        "examples",
        "Example users",
        texts=[
            "A few users, to see what the numbers are about; they prove nothing. The history ends with the most recent "
            "item; the held-out item, which the model did not see, is marked in the list."
        ],
        users=users,
    )


def _user(example: Mapping[str, Any]) -> ExampleUser:
    history = _items(example.get("history"))
    listed = _items(example.get("list"))
    held_out = example.get("held_out")
    shown = [_item(item) for item in history[-_HISTORY_SHOWN:]]
    # The file may hold only the end of a long history, and then says how long it was.
    length = max(int(as_number(example.get("history_length")) or 0), len(history))
    hit = any(item.get("hit") for item in listed)
    return ExampleUser(
        summary=f"User {example.get('user_id', '?')} – {plural(length, 'item')} seen",
        outcome=_outcome(held_out, len(listed)) if isinstance(held_out, Mapping) else "nothing held out",
        found=hit,
        earlier=length - len(shown),
        history=shown,
        recommended=[_item(item) for item in listed],
    )


def _items(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _outcome(held_out: Mapping[str, Any], length: int) -> str:
    title = _title(held_out)
    rank = as_number(held_out.get("rank"))
    if rank is None:
        return f"held out: {title}, not ranked"
    place = f"rank {count(rank)}"
    return f"held out: {title}, {place}" + (f", outside the {length} listed" if length and rank > length else "")


def _title(item: Mapping[str, Any]) -> str:
    """The title, or the source's own id where there is none."""
    return str(item.get("title") or f"item {item.get('item_id', '?')}")


def _item(item: Mapping[str, Any]) -> ExampleItem:
    rank, score = as_number(item.get("rank")), as_number(item.get("score"))
    return ExampleItem(
        title=_title(item),
        details=str(item.get("details") or ""),
        when=str(item.get("when") or ""),
        rank="" if rank is None else count(rank),
        score="" if score is None else number(score, 2),
        hit=bool(item.get("hit")),
    )
