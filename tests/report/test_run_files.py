import json
import math
import re

import pytest

from moerec.errors import MoerecError
from moerec.report.page import write_report
from moerec.report.run_files import read_run
from tests.report.sample_run import metrics, write_sample_run


def test_unreadable_lines_of_the_history_are_counted(tmp_path):
    run = write_sample_run(tmp_path)
    with (run / "history.jsonl").open("a") as stream:
        stream.write('{"stage": "main", "upd')
    assert read_run(run).unreadable_history_lines == 1
    assert "Left out: 1 line of history.jsonl that could not be read" in write_report(run).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", None, "no such file"),
        ("metrics.json", '{"name": ', "metrics.json:1: not valid JSON"),
        ("metrics.json", "[1]", "holds a list"),
        ("examples.json", '{"a": 1}', "must be a list of users"),
        ("environment.json", "nonsense", "not valid JSON"),
    ],
)
def test_damaged_files_give_one_line_and_leave_the_old_page(tmp_path, name, content, message):
    run = write_sample_run(tmp_path)
    (run / "report.html").write_text("old", encoding="utf-8")
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content, encoding="utf-8")
    with pytest.raises(MoerecError, match=re.escape(message)) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert (run / "report.html").read_text(encoding="utf-8") == "old"
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    run = write_sample_run(tmp_path)
    (run / "recipe.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(MoerecError, match="not UTF-8 at byte 9"):
        write_report(run)


def test_json_written_with_nan_is_read(tmp_path):
    recorded = metrics()
    recorded["retrieval"]["test"]["hr@20"] = math.nan
    run = write_sample_run(tmp_path, metrics=recorded)
    assert "NaN" in (run / "metrics.json").read_text()
    assert json.loads((run / "metrics.json").read_text())["name"] == "quickstart"
    assert not re.search(r"\bnan\b", write_report(run).read_text(encoding="utf-8"), re.IGNORECASE)
