"""A ranker's results in words: the finding of each task, who is ahead by how much, and numbers that disagree."""

from __future__ import annotations

from moerec.report.finding import evidence
from moerec.report.labels import count, listed, number, p_statement, percent
from moerec.report.ranking_finding import PredictedTask, RankingFinding, measure_label


def task_sentences(finding: RankingFinding) -> list[str]:
    """The finding: one sentence for each task, each with its population."""
    return [_sentence(finding, task) for task in finding.tasks]


def _sentence(finding: RankingFinding, task: PredictedTask) -> str:
    main, decimals = task.main, finding.decimals(task, task.main)
    value = number(finding.model.test[task.key(main)], decimals)
    text = f"{finding.model.name} predicts {task.name} ({task.where}) with {measure_label(main)} {value}"
    ranked = finding.ranked_baselines(task)
    if not ranked:
        return f"{text}; no baseline was measured beside it, so the number stands alone."
    best = ranked[0]
    gain = finding.gain(task, main, best) or 0.0
    test = best.against_model.get(task.key(main))
    significant = test.significant if test is not None else None
    proof = evidence(test, False, decimals, with_interval=not significant)
    size = "level with" if gain == 0 else f"{number(abs(gain), decimals)} {'better' if gain > 0 else 'worse'} than"
    inside = f"{best.name}, {number(best.test[task.key(main)], decimals)}"
    lost = ": the model does not win"
    text = f"{text}, {size} the best plain baseline"
    if significant:
        return f"{text} ({inside}; {proof}){'' if gain > 0 else lost}."
    if significant is None:
        return f"{text} ({inside}){'' if gain > 0 else lost}; no paired test was recorded, so it may be chance."
    if gain == 0:
        return f"{text} ({inside}; {proof}){lost}."
    link = ", but" if gain > 0 else f"{lost}, though"
    return f"{text} ({inside}){link} this difference is not statistically significant ({proof})."


def ahead(finding: RankingFinding, task: PredictedTask) -> list[str]:
    """The baselines that beat the model on the task, each statement with by how much; empty if none does."""
    main, decimals = task.main, finding.decimals(task, task.main)
    winners = [one for one in finding.ranked_baselines(task) if (finding.gain(task, main, one) or 0.0) < 0]
    if not winners:
        return []
    best, own = winners[0], number(finding.model.test[task.key(main)], decimals)
    size = number(abs(finding.gain(task, main, best) or 0.0), decimals)
    test = best.against_model.get(task.key(main))
    proof = evidence(test, False, decimals, with_interval=True)
    may_be_chance = test is not None and test.significant is False
    text = (
        f"{best.name} {'is ahead' if may_be_chance else 'wins'} on {task.name} ({task.where}) by {size} in "
        f"{measure_label(main)}: {number(best.test[task.key(main)], decimals)} against {own} of {finding.model.name}"
        f"{f' (model minus baseline: {proof})' if proof else ''}"
        f"{'; this difference is not statistically significant' if may_be_chance else ''}."
    )
    others = [f"{one.name} by {number(abs(finding.gain(task, main, one) or 0.0), decimals)}" for one in winners[1:]]
    return [f"{text} Also ahead: {listed(others)}." if others else text]


def ahead_elsewhere(finding: RankingFinding, task: PredictedTask) -> list[str]:
    """Where the model leads on the main measure, the others on which a baseline is ahead of it."""
    if ahead(finding, task):
        return []
    found = []
    for measure in task.measures:
        key = task.key(measure)
        rivals = [one for one in finding.baselines if (finding.gain(task, measure, one) or 0.0) < 0]
        if measure != task.main and rivals:
            best = min(rivals, key=lambda one: finding.gain(task, measure, one) or 0.0)
            places = finding.decimals(task, measure)
            values = f"{number(best.test[key], places)} against {number(finding.model.test[key], places)}"
            found.append(f"{measure_label(measure)} ({best.name}, {values})")
    if not found:
        return []
    return [f"On other measures of {task.name} ({task.where}) a baseline is ahead: {listed(found)}."]


def siblings_ahead(finding: RankingFinding, task: PredictedTask) -> list[str]:
    """The siblings that do better than the model on the task's main measure, in one sentence; empty if none does."""
    main, places = task.main, finding.decimals(task, task.main)
    found = []
    for sibling in finding.siblings:
        gain, test = finding.gain(task, main, sibling), sibling.against_model.get(task.key(main))
        if gain is not None and gain < 0:
            chance = p_statement(test.p_value) if test is not None and test.p_value is not None else "no paired test"
            found.append(f"{sibling.name} by {number(-gain, places)} ({chance})")
    if not found:
        return []
    text = f"Of the siblings, with the same inputs and training, {listed(found)}"
    return [
        f"{text} {'is' if len(found) == 1 else 'are'} ahead on {task.name} ({task.where}) in {measure_label(main)}."
    ]


def contradictions(finding: RankingFinding, task: PredictedTask) -> list[str]:
    """Recorded numbers of a task that contradict each other, each in one sentence; none is the normal case."""
    found, tolerance = [], 1e-3
    for system in finding.systems:
        for measure in task.measures:
            key, label = task.key(measure), f"{measure_label(measure)} of {task.name}"
            value, bounds = system.test.get(key), system.intervals.get(key)
            if value is not None and bounds is not None and not bounds[0] - tolerance <= value <= bounds[1] + tolerance:
                found.append(f"{system.name}: {label}, {number(value)}, lies outside its own interval.")
            test, own = system.against_model.get(key), finding.model.test.get(key)
            if test is None or test.difference is None or value is None or own is None:
                continue
            if abs(own - value - test.difference) > tolerance:
                found.append(
                    f"{system.name}: the tested difference in {label} is {number(test.difference)}, but the values in "
                    f"the table differ by {number(own - value)}."
                )
    return found


def facts_of(task: PredictedTask) -> str:
    """Rows by split and what the labels look like, in one sentence."""
    rows = [f"{count(task.rows[split])} {split}" for split in ("train", "valid", "test") if split in task.rows]
    facts = [f"{listed(rows)} rows"] if rows else []
    if task.positive_share is not None:
        facts.append(f"{percent(task.positive_share)} positive")
    if task.label_mean is not None:
        deviation = f" (standard deviation {number(task.label_deviation, 2)})" if task.label_deviation else ""
        facts.append(f"mean label {number(task.label_mean, 2)}{deviation}")
    if (majority := task.described_rows.get("majority_accuracy")) is not None:
        commonest = "commonest" if len(task.values) > 2 else "commoner"
        facts.append(f"always saying the {commonest} class has accuracy {number(majority)}")
    if (entropy := task.described_rows.get("label_entropy")) is not None:
        facts.append(f"always saying the classes' shares has log loss {number(entropy)}")
    if task.kind == "multiclass":
        facts.append(
            "AUC is the mean over the classes of one against the rest, ECE that of the likeliest class' probability"
        )
    if task.kind == "ordinal":
        facts.append(
            "RMSE and MAE are of the expected value, kappa (with quadratic weights) and accuracy of the likeliest one"
        )
    left_out = task.described_rows.get("gauc_users_left_out")
    if left_out == 1:
        facts.append("GAUC is not defined, for no user has labels of both kinds")
    elif left_out:
        facts.append(f"GAUC leaves out {percent(left_out)} of the users, whose labels are all the same")
    return f"{'; '.join(facts)}." if facts else ""
