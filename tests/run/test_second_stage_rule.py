"""The second stage is on by default only where validation says so beyond chance."""

import pytest

from moerec.run.two_stage import decide


@pytest.mark.parametrize(
    ("use", "both", "p_value", "is_on", "says"),
    [
        ("auto", 0.12, 0.01, True, "improves the lists"),
        ("auto", 0.1002, 0.4, False, "may be chance"),
        ("auto", 0.1, 1.0, False, "no gain"),
        ("auto", 0.09, 0.01, False, "no gain"),
        ("always", 0.09, 0.01, True, "the recipe says two_stage.use: always"),
        ("never", 0.12, 0.01, False, "the recipe says two_stage.use: never"),
    ],
)
def test_only_a_gain_beyond_chance_switches_it_on(use, both, p_value, is_on, says):
    decided, why = decide(use, "ndcg@10", both, 0.1, p_value)
    assert decided is is_on
    assert says in why
    assert f"{both:.4f}" in why
    assert "0.1000" in why
