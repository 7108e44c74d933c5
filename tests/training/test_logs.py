"""Where the numbers of a training go."""

import json

from rich.console import Console

from moerec.training.logs import TrainingLog


def test_numbers_by_task_are_a_line_of_json_and_a_curve_each(tmp_path):
    class Curves:
        def __init__(self) -> None:
            self.points: dict[str, tuple[float, int]] = {}

        def add_scalar(self, name: str, value: float, update: int) -> None:
            self.points[name] = (value, update)

        def close(self) -> None:
            pass

    curves = Curves()
    record = {
        "stage": "main",
        "update": 20,
        "epoch": 1,
        "loss": 0.5,
        "losses": {"like": 0.4},
        "weights": {"like": 1.2},
        "cosines": {"like/rating": -0.3},
    }
    with TrainingLog(tmp_path / "history.jsonl", Console(quiet=True)) as log:
        log._writer = curves
        log.record(record)
    assert json.loads((tmp_path / "history.jsonl").read_text()) == record
    assert curves.points == {
        "loss": (0.5, 20),
        "losses/like": (0.4, 20),
        "weights/like": (1.2, 20),
        "cosines/like/rating": (-0.3, 20),
    }
