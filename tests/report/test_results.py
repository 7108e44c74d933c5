"""Sections on results: slices without a case are named and take no row."""

from moerec.report.finding import find
from moerec.report.results import slices
from tests.report.sample_run import metrics


def test_slices_without_a_case_are_named_and_take_no_row():
    finding = find(metrics())
    block = slices(finding)
    rows = [row.label for table in block.tables for row in table.rows]
    assert {"New items", "Known users"} <= set(rows)
    assert "New users" not in rows
    assert "This split has no case of: New users." in block.texts[0]
    assert "New users" not in str(block.figures[0].chart)
