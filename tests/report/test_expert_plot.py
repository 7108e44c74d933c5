import re
import xml.etree.ElementTree as ET

import pytest

from moerec.errors import MoerecError
from moerec.report.expert_plot import expert_blocks, write_expert_plot
from tests.report.sample_ranking import ranking, ranking_files
from tests.report.test_page import HOSTILE, Page
from tests.report.test_plots import NAMESPACE
from tests.report.test_ranking_experts import INNER, PLE


@pytest.fixture
def metrics():
    recorded = ranking() | {"experts": {"tasks": PLE, "inner": INNER}}
    return ranking_files().metrics | {"ranking": recorded}


def numbers(text):
    return re.findall(r'class="in-cell"[^>]*>([\d.]+)<', text)


def test_the_svg_is_one_picture_that_needs_no_browser(metrics, tmp_path):
    write_expert_plot(metrics, tmp_path / "deep/experts.svg")
    text = (tmp_path / "deep/experts.svg").read_text(encoding="utf-8")
    picture = ET.fromstring(text)
    assert "var(" not in text
    assert "calc(" not in text
    assert (
        len(list(picture.iter(f"{NAMESPACE}svg"))) == 1 + 3 + 4
    )  # the item tower has three, the tasks two, each level one
    height = float(picture.get("height"))
    for part in list(picture.iter(f"{NAMESPACE}svg"))[1:]:
        assert float(part.get("y")) + float(part.get("height")) <= height
        assert float(part.get("x")) + float(part.get("width")) <= float(picture.get("width"))


def test_page_and_picture_hold_the_same_cells(metrics, tmp_path):
    for name in ("experts.svg", "experts.HTML"):
        write_expert_plot(metrics, tmp_path / name)
    picture, page = ((tmp_path / name).read_text(encoding="utf-8") for name in ("experts.svg", "experts.HTML"))
    assert numbers(picture) == numbers(page)
    found = Page(page)
    assert [attributes["id"] for attributes in found.all("section") if "id" in attributes] == [
        "experts",
        "ranking-experts",
    ]
    assert len(found.all("table")) == 1 + 3
    assert not {"script", "link", "img"} & {tag for tag, _, _ in found.elements}


def test_the_ranker_alone_or_the_item_tower_alone(metrics):
    alone = {key: value for key, value in metrics.items() if key != "experts"}
    assert [block.key for block in expert_blocks(alone)] == ["ranking-experts"]
    assert [block.key for block in expert_blocks(metrics | {"ranking": {}})] == ["experts"]


def test_names_from_data_are_harmless(metrics, tmp_path):
    tasks = {task: one | {"names": [f"{HOSTILE} {place}" for place in range(4)]} for task, one in PLE.items()}
    metrics["ranking"]["experts"] = {"tasks": tasks}
    write_expert_plot(metrics, tmp_path / "experts.svg")
    picture = ET.parse(tmp_path / "experts.svg")
    assert {element.tag.removeprefix(NAMESPACE) for element in picture.iter()} <= {
        "svg", "style", "rect", "line", "text", "tspan", "title",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["experts.png", "experts", "experts.svg.gz"])
def test_another_form_is_refused(metrics, tmp_path, name):
    with pytest.raises(MoerecError, match=r"the name must end in \.svg or \.html"):
        write_expert_plot(metrics, tmp_path / name)
    assert not list(tmp_path.iterdir())
