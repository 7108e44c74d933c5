"""Audit of a folder of examples: leaks, bounds of the parts, labels, what is missing, duplicates, ids.

Everything is read from the files that an engine wrote, lazily, so that the examples need not fit into memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from moerec.dataset.audit import AuditReport, Finding, Level
from moerec.dataset.frames import day_text
from moerec.dataset.rejects import count_rejects, summarise_rejects
from moerec.dataset.schema import Part
from moerec.dataset.sources.json_lines import CUT_ARCHIVE
from moerec.engines.example_folder import ExampleFolder
from moerec.features.reviews import ReviewExamplesConfig

PARTS = (Part.TRAIN, Part.VALID, Part.TEST)
_FEW_REJECTS, _MANY_REJECTS = 0.0, 0.05


def audit_examples(
    files: ExampleFolder, name: str, rule: ReviewExamplesConfig, *, sample: int = 2000, seed: int = 0
) -> AuditReport:
    """Look at the examples that an engine wrote.

    Args:
        files: the finished folder.
        name: what the report calls it.
        rule: how the examples were made.
        sample: reviews whose profile is made again from the events before them.
        seed: of the sample.
    """
    findings = (
        _rows(files),
        _rejected(files),
        _bounds(files, rule),
        *_labels(files),
        _populations(files),
        _profile(files, sample, seed),
        _negatives(files, rule),
        _missing(files),
        _duplicates(files),
        _ids(files),
    )
    return AuditReport(name, "date", described(rule), findings)


def described(rule: ReviewExamplesConfig) -> str:
    """How examples are made, in words."""
    return (
        f"train until {rule.train_until}, valid until {rule.valid_until}, test after it (UTC days); "
        f"{rule.keep_five_stars:.0%} of the five-star train reviews are kept as examples"
    )


def _name(part: int) -> str:
    return Part(part).name.lower()


def _rows(files: ExampleFolder) -> Finding:
    counts = files.examples.group_by("part", "negative").len("rows").sort("part", "negative").collect()
    values: dict[str, Any] = {}
    for part, negative, rows in counts.iter_rows():
        values.setdefault(_name(part), {"reviews": 0, "negatives": 0})["negatives" if negative else "reviews"] = rows
    words = [
        f"{name}: {found['reviews']:,} reviews and {found['negatives']:,} negatives" for name, found in values.items()
    ]
    lacking = [_name(part) for part in PARTS if _name(part) not in values]
    level: Level = "warning" if lacking else "ok"
    without = f"; nothing in {', '.join(lacking)}: look at the dates of the parts" if lacking else ""
    return Finding("rows", level, f"{'; '.join(words) or 'no example'}{without}.", values)


def _rejected(files: ExampleFolder) -> Finding:
    reasons = count_rejects(files.rejects)
    accepted = files.events.select(pl.len()).collect().item()
    share = files.rejects.height / max(1, files.rejects.height + accepted)
    level: Level = "warning" if share > _MANY_REJECTS else "note" if share > _FEW_REJECTS else "ok"
    sentence = f"{share:.2%} of what was read was refused; {summarise_rejects(reasons)}."
    if damaged := reasons.get(CUT_ARCHIVE, 0):
        # One reject stands for all that would have followed it.
        level = "warning"
        sentence += f" {damaged} compressed files end early, and what they held after that is lost; get them again."
    return Finding("rejects", level, sentence, {"share": share, "reasons": reasons})


def _bounds(files: ExampleFolder, rule: ReviewExamplesConfig) -> Finding:
    """The parts follow one another in time, and a negative stands at the time of its review."""
    spans = (
        files.examples.group_by("part")
        .agg(first=pl.col("timestamp").min(), last=pl.col("timestamp").max())
        .sort("part")
        .collect()
    )
    overlaps = sum(
        earlier["last"] >= later["first"]
        for earlier, later in zip(spans.to_dicts()[:-1], spans.to_dicts()[1:], strict=True)
    )
    reviews = files.examples.filter(pl.col("negative") == 0).select("key", "timestamp", "part")
    moved = (
        files.examples.filter(pl.col("negative") == 1)
        .join(reviews, left_on="positive", right_on="key", how="left", suffix="_of_review")
        .filter(
            pl.col("timestamp_of_review").is_null()
            | (pl.col("timestamp") != pl.col("timestamp_of_review"))
            | (pl.col("part") != pl.col("part_of_review"))
        )
        .select(pl.len())
        .collect()
        .item()
    )
    told = "; ".join(
        f"{_name(row['part'])} {day_text(row['first'])} to {day_text(row['last'])}" for row in spans.to_dicts()
    )
    times = spans.select(pl.concat_list("first", "last")).to_series().list.to_array(2).to_numpy()  # [parts, 2]
    expected = rule.parts(times.reshape(-1)).reshape(-1, 2) if spans.height else times
    outside = int((expected != spans["part"].to_numpy()[:, None]).any(1).sum())
    problems = [f"{overlaps} parts overlap"] * bool(overlaps)
    problems += [f"{outside} parts hold rows of another part's days"] * bool(outside)
    problems += [f"{moved:,} negatives stand at another time than their review"] * bool(moved)
    meaning = "; ".join(problems) or "no part reaches into the next, and each negative has the time of its review"
    values = {_name(row["part"]): {"first": row["first"], "last": row["last"]} for row in spans.to_dicts()}
    return Finding(
        "bounds of the parts",
        "warning" if problems else "ok",
        f"{told}; {meaning}.",
        values | {"overlaps": int(overlaps), "negatives_moved": moved},
    )


def _labels(files: ExampleFolder) -> list[Finding]:
    """How often a review is good and the best, by part; negatives are not among them."""
    reviews = files.examples.filter(pl.col("negative") == 0)
    table = reviews.group_by("part").agg(pl.col("good", "best").mean()).sort("part").collect()
    found = []
    for label in ("good", "best"):
        shares = {_name(part): float(share) for part, share in table.select("part", label).iter_rows()}
        told = ", ".join(f"{share:.1%} in {name}" for name, share in shares.items())
        one_sided = [name for name, share in shares.items() if share in (0.0, 1.0)]
        level: Level = "warning" if one_sided else "ok"
        meaning = (
            f"in {', '.join(one_sided)} it is the same everywhere and cannot be judged"
            if one_sided
            else "train lacks the five-star reviews that were sampled away, valid and test do not"
        )
        found.append(Finding(f"label {label}", level, f"{told} of the reviews; {meaning}.", shares))
    return found


def _populations(files: ExampleFolder) -> Finding:
    """Negatives are no judgements: a negative with a rating or a label would make them so."""
    negatives = files.examples.filter(pl.col("negative") == 1)
    wrong = negatives.filter(pl.col("rating").is_not_null() | (pl.col("good") != 0) | (pl.col("best") != 0))
    judged = wrong.select(pl.len()).collect().item()
    told = f"{judged:,} negatives have a rating" if judged else "No negative has a rating"
    return Finding(
        "populations",
        "warning" if judged else "ok",
        f"{told}; figures over reviews and over reviews with negatives are two things and must be named.",
        {"negatives_judged": judged},
    )


def _profile(files: ExampleFolder, sample: int, seed: int) -> Finding:
    """Counts, prices and histories of sampled reviews are made again from the reviews strictly before them."""
    reviews = files.examples.filter(pl.col("negative") == 0)
    count = reviews.select(pl.len()).collect().item()
    if not count:
        return Finding("profile", "warning", "There is no review whose profile could be looked at.", {"sampled": 0})
    rows = np.sort(np.random.default_rng(seed).choice(count, min(sample, count), replace=False))
    columns = ("key", "user_id", "timestamp", "review_count", "price_mean", "history")
    chosen = (
        reviews.select(columns)
        .with_row_index("row")
        .join(pl.LazyFrame({"row": rows.astype(np.uint32)}), on="row", how="semi")
    )
    before = chosen.select("key", "user_id", "timestamp").join(
        files.events.select("user_id", "timestamp", "item_id", "price", event="key"), on="user_id", suffix="_before"
    )
    again = (
        before.filter(pl.col("timestamp_before") < pl.col("timestamp"))
        .sort("timestamp_before", "item_id", descending=True)
        .group_by("key", maintain_order=True)
        .agg(
            count=pl.len().cast(pl.Int64),
            mean=pl.col("price").fill_nan(None).mean(),
            last=pl.col("event"),
        )
    )
    compared = chosen.join(again, on="key", how="left").with_columns(pl.col("count").fill_null(0)).collect()
    seen = [
        set(history or ()) <= set(last or ()) and (history or []) == (last or [])[: len(history or ())]
        for history, last in compared.select("history", "last").iter_rows()
    ]
    differs = (
        (compared["count"] != compared["review_count"])
        | ((compared["mean"] - compared["price_mean"]).abs() > 0.01).fill_null(value=False)
        | (compared["mean"].is_null() != compared["price_mean"].is_null())
        | ~pl.Series(seen)
    ).sum()
    told = (
        f"{differs:,} of {compared.height:,} sampled profiles"
        if differs
        else f"None of {compared.height:,} sampled profiles"
    )
    meaning = "they see what they must not see" if differs else "counts, mean prices and histories hold nothing else"
    return Finding(
        "profile",
        "warning" if differs else "ok",
        f"{told} differ from what the strictly earlier reviews say: {meaning}.",
        {"sampled": compared.height, "differing": int(differs)},
    )


def _negatives(files: ExampleFolder, rule: ReviewExamplesConfig) -> Finding:
    pairs = files.events.select("user_id", "item_id").unique()
    negatives = files.examples.filter(pl.col("negative") == 1)
    met = negatives.join(pairs, on=["user_id", "item_id"], how="semi")
    in_train, elsewhere = (
        met.filter((pl.col("part") == Part.TRAIN) == train).select(pl.len()).collect().item() for train in (True, False)
    )
    exclude = None if rule.negatives is None else rule.negatives.exclude
    wrong = elsewhere if exclude in ("ever", "train") else 0
    wrong += in_train if exclude == "ever" else 0
    allowed = f", as exclude: {exclude} allows" if (in_train or elsewhere) and not wrong else ""
    level: Level = "warning" if wrong else "note" if in_train or elsewhere else "ok"
    return Finding(
        "negatives",
        level,
        f"{in_train:,} negatives of train and {elsewhere:,} of valid and test are items that their user reviews at "
        f"some time{allowed}.",
        {"met_in_train": in_train, "met_elsewhere": elsewhere},
    )


def _missing(files: ExampleFolder) -> Finding:
    total = max(1, files.examples.select(pl.len()).collect().item())
    reviews = files.examples.filter(pl.col("negative") == 0)
    first = reviews.select((pl.col("review_count") == 0).mean()).collect().item() or 0.0
    names = files.items.collect_schema().names()
    wanted = [name for name in ("title", "main_category", "price", "image") if name in names]
    joined = files.examples.select("item_id").join(
        files.items.select("item_id", *wanted, known=pl.lit(True)), on="item_id", how="left"
    )
    empty = joined.select(pl.col(*wanted, "known").null_count()).collect().row(0, named=True)
    rates = {("product" if name == "known" else name): count / total for name, count in empty.items()}
    worst = max(rates.values(), default=0.0)
    level: Level = "warning" if worst > 0.5 else "note" if worst > 0.0 else "ok"
    told = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items())
    sentence = (
        f"Missing in the examples: {told}; {first:.1%} of the reviews are a user's first and have an empty profile."
    )
    return Finding("missing", level, sentence, rates | {"first_reviews": first})


def _duplicates(files: ExampleFolder) -> Finding:
    keys, distinct = files.examples.select(pl.len(), distinct=pl.col("key").n_unique()).collect().row(0)
    pairs = files.events.group_by("user_id", "item_id").len("times").filter(pl.col("times") > 1)
    again = pairs.select((pl.col("times") - 1).sum()).collect().item() or 0
    repeated = keys - distinct
    return Finding(
        "duplicates",
        "warning" if repeated else "ok",
        f"{repeated:,} keys stand there twice; {again:,} reviews are another one of the same product by the same user.",
        {"keys": repeated, "repeated_reviews": int(again)},
    )


def _ids(files: ExampleFolder) -> Finding:
    values = {
        "users": files.events.select(pl.col("user_id").n_unique()).collect().item(),
        "items": files.events.select(pl.col("item_id").n_unique()).collect().item(),
    }
    train = files.examples.filter((pl.col("negative") == 0) & (pl.col("part") == Part.TRAIN)).select(
        "item_id", "user_id"
    )
    test = files.examples.filter((pl.col("negative") == 0) & (pl.col("part") == Part.TEST))
    rows = max(1, test.select(pl.len()).collect().item())
    shares = {}
    for name in ("item_id", "user_id"):
        new = test.join(train.select(name).unique(), on=name, how="anti").select(pl.len()).collect().item()
        shares[name] = new / rows
    negatives = files.examples.filter((pl.col("negative") == 1) & (pl.col("part") == Part.TEST))
    drawn = negatives.join(train.select("item_id").unique(), on="item_id", how="anti").select(pl.len()).collect().item()
    blank = files.events.filter(
        (pl.col("user_id").str.strip_chars() == "") | (pl.col("item_id").str.strip_chars() == "")
    )
    empty = blank.select(pl.len()).collect().item()
    return Finding(
        "ids",
        "warning" if empty else "ok",
        f"{values['users']:,} users and {values['items']:,} products; {shares['item_id']:.1%} of the test reviews are "
        f"of products, {shares['user_id']:.1%} of users, that train does not know. Such products are never drawn, so "
        f"{drawn:,} of the test negatives are of them: judge new products by reviews alone. {empty:,} ids are blank.",
        values | {"new_items": shares["item_id"], "new_users": shares["user_id"], "blank": empty},
    )
