"""Next-item models: quality and speed of ours beside RecTools, RecBole, RePlay and a plain torch loop.

    python benchmarks/sequences.py --dataset ml-100k --models moerec-sasrec rectools-sasrec --seeds 0 1
    python benchmarks/sequences.py --speed --dataset ml-1m-sequences --length 200
    python benchmarks/sequences.py --table

Quality: every model is fitted on the same train events (leave-last-out), gets the same minutes of processor time on one
thread (validation not counted), is chosen by validation NDCG@10, and is ranked by the same evaluator: full ranking over
unseen items, and against 100 uniform candidates. Ours is one `moerec run`; its epochs are what fits into the minutes.
Rivals train in their own loops with their own losses, loaders and defaults, each in an environment that is made at the
first call; a model that cannot be installed or run leaves its error as its row. Rows are recorded one by one in
results/sequences.json, so that a stopped benchmark goes on, and seeds and models can be added.

Speed: targets per second of processor time on one thread, all sides in turns within one run: 64 wide, 2 blocks, 2
heads, dropout 0.2, 128 sequences. A target is a real place with a positive, so padding is none. What is beside that is
each library's own: the feed-forward is 64 wide in RecTools' SASRec and RePlay and 256 elsewhere, eSASRec draws 256
negatives for each place, RecBole makes a sequence of each target and gets 2,048 of them in a batch, or what fits at
greater lengths.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from recorded_runs import difference
from sequence_models import DATASETS, GENERATED, LENGTHS, MODELS
from sequence_quality import METRICS, Quality, summaries
from sequence_speed import measure_speed

from moerec.files import write_json

RESULTS = Path(__file__).parent / "results" / "sequences.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="ml-100k", choices=[*DATASETS, GENERATED])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="processor time of each training, on one thread")
    parser.add_argument("--length", type=int, help="events that a model sees; by default that of the data set")
    parser.add_argument("--speed", action="store_true", help="measure speed in turns instead of quality")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=4.0, help="processor time of one turn")
    parser.add_argument("--dry", action="store_true", help="record nothing, print what was found")
    parser.add_argument("--table", action="store_true", help="only print what is recorded")
    options = parser.parse_args()
    torch.set_num_threads(1)
    length = options.length or LENGTHS[options.dataset]
    if options.table:
        print(tables(recorded()))
    elif options.speed:
        found = measure_speed(options.dataset, options.models, length, options.rounds, options.seconds)
        keep("speed", f"{options.dataset}/{length}", found, dry=options.dry)
    elif options.dataset == GENERATED:
        parser.error(f"{GENERATED} is for --speed alone: its events follow from nothing")
    else:
        bench = Quality(options.dataset, length, options.minutes)
        for seed in options.seeds:
            for model in options.models:
                key = f"{options.dataset}/{model}/{seed}"
                if options.dry or not is_done(recorded()["rows"].get(key), options.minutes, length):
                    row = bench.row(model, seed)
                    if row is not None:
                        keep("rows", key, row, dry=options.dry)
        if not options.dry:
            results = recorded()
            results["summary"] = summaries(results["rows"])
            write_json(RESULTS, results)
            print(tables(results))


def recorded() -> dict[str, Any]:
    """What the results file holds."""
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": {}, "speed": {}, "summary": {}}


def is_done(row: Mapping[str, Any] | None, minutes: float, length: int) -> bool:
    """Whether a row stands; one that failed, or that had another budget or length, is done again in its place."""
    return row is not None and "test" in row and (row["minutes"], row["length"]) == (minutes, length)


def keep(part: str, key: str, found: Mapping[str, Any], *, dry: bool) -> None:
    """Record at once; another process may have added rows meanwhile."""
    if dry:
        print(json.dumps({key: found}, indent=2))
        return
    results = recorded()
    results[part][key] = found
    write_json(RESULTS, results)


def tables(results: Mapping[str, Any]) -> str:
    """What is recorded, as Markdown."""
    parts = [quality_table(results, dataset) for dataset in results["summary"]]
    parts += [speed_table(key, row) for key, row in results["speed"].items()]
    return "\n\n".join(parts) or "nothing is recorded yet"


def quality_table(results: Mapping[str, Any], dataset: str) -> str:
    """One data set's models, mean and deviation over seeds."""
    rows = [row for row in results["rows"].values() if row["dataset"] == dataset]
    lines = [
        f"**{dataset}**",
        "",
        "| model | seeds | minutes | HR@10 | NDCG@10 | HR@10, 100 sampled | NDCG@10, 100 sampled "
        "| moerec SASRec ahead by (NDCG@10) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model, summary in results["summary"][dataset].items():
        cells = [f"{summary[name]['mean']:.4f} ± {summary[name]['deviation']:.4f}" for name in METRICS]
        minutes = sorted({row["minutes"] for row in rows if row["model"] == model and "test" in row})
        budget = ", ".join(f"{value:g}" for value in minutes)
        seeds = summary["ndcg@10"]["seeds"]
        cells.append(difference(summary.get("behind")))
        lines.append(f"| {MODELS[model].label} | {seeds} | {budget} | {' | '.join(cells)} |")
    for row in rows:
        if "error" in row:
            reason = row["error"].splitlines()[-1]
            lines.append(
                f"| {MODELS[row['model']].label} | | {row['minutes']:g} | could not be run: {reason} | | | | |"
            )
    return "\n".join(lines)


def ranged(found: Mapping[str, float], form: str) -> str:
    """Median and range of the turns, as one cell."""
    return f"{found['median']:{form}} ({found['min']:{form}} to {found['max']:{form}})"


def speed_table(key: str, row: Mapping[str, Any]) -> str:
    """Rates of all sides, and the ratios of ours."""
    ours = list(row["ratio"])
    heads = "".join(f" | {MODELS[model].label}: times as fast" for model in ours)
    lines = [
        f"**{key}** ({row['shape']}, one thread)",
        "",
        f"| model | parameters | targets per CPU-second | per second of wall clock | peak MiB{heads} |",
        "|---|---|---|---|---|" + "---|" * len(ours),
    ]
    for model, rate in row["targets_per_cpu_second"].items():
        cells = [
            MODELS[model].label,
            f"{row['parameters'][model]:,}",
            ranged(rate, ",.0f"),
            f"{row['targets_per_wall_second'][model]['median']:,.0f}",
            f"{row['peak_mib'][model]:,}",
            *(ranged(row["ratio"][mine][model], ".2f") if model in row["ratio"][mine] else "" for mine in ours),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for model, error in row["errors"].items():
        reason = error.splitlines()[-1]
        lines.append(f"| {MODELS[model].label} | | could not be run: {reason} | | |{' |' * len(ours)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
