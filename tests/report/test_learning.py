from moerec.report.page import blocks
from tests.report.sample_run import files


def learning_of(records, unreadable=0):
    found = blocks(files(history=records, unreadable_history_lines=unreadable))
    return next(block for block in found if block.key == "learning")


def test_the_best_checkpoint_is_marked():
    records = [
        {"stage": "main", "update": 10, "valid": {"hr@10": 0.1}, "best": True},
        {"stage": "main", "update": 20, "valid": {"hr@10": 0.3}, "best": True},
        {"stage": "main", "update": 30, "valid": {"hr@10": 0.2}, "best": False},
    ]
    block = learning_of(records)
    assert "The best checkpoint came at update 20: HR@10 0.300 on validation" in block.texts[0]
    assert "best checkpoint, at update 20" in block.figures[-1].caption
    assert 'class="mark ring"' in block.figures[-1].chart
    later = [{"stage": "fine", "update": 40, "valid": {"hr@10": 0.25}, "best": True}]
    assert "The best checkpoint came at update 40: HR@10 0.250" in learning_of(records + later).texts[0]


def test_stages_that_start_anew_follow_one_another():
    records = [
        {"stage": stage, "update": update, "loss": loss}
        for stage, loss in (("warm up", 3.0), ("main", 2.0))
        for update in (10, 20, 30)
    ]
    block = learning_of(records)
    assert block.texts[0].startswith("60 optimizer updates in 2 stages (warm up, main)")
    chart = block.figures[0].chart
    assert ">Warm up</text>" in chart
    assert chart.count('class="boundary"') == 2


def test_a_record_written_twice_by_a_resumed_run_counts_once():
    once = [{"stage": "main", "update": update, "loss": 5.0 - update / 100} for update in range(10, 110, 10)]
    again = [*once[:7], *once[4:]]
    assert learning_of(again).figures == learning_of(once).figures
