"""The funnel: labels that follow the truth beside them, a bias by selection, a heavy tail, and what is planted."""

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad
from scipy.special import expit

from moerec.dataset.dataset import Dataset
from moerec.dataset.sources.funnel import DAYS, EVENING, LABELS, TRUTH, FunnelConfig
from moerec.dataset.splits import SplitConfig


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    """Impressions with the columns of their users and items."""
    raw = FunnelConfig(users=1500, items=60, impressions_per_user=40).read()
    return raw.events.join(raw.users, on="user_id").join(raw.items, on="item_id")


def rate(events: pl.DataFrame, label: str) -> float:
    return float(events[label].cast(pl.Float64).mean())


def test_what_happened_follows_the_truth_in_every_tenth_of_it(events):
    clicked = events.filter(click=1)
    for label, truth, rows in (
        ("click", "true_click", events),
        ("purchase", "true_purchase", events),
        ("purchase", "true_conversion", clicked),
    ):
        probability, happened = rows[truth].to_numpy(), rows[label].to_numpy()
        tenths = np.digitize(probability, np.quantile(probability, np.linspace(0.1, 0.9, 9)))
        for tenth in range(10):
            of = tenths == tenth
            error = np.sqrt((probability[of] * (1 - probability[of])).sum())
            assert abs(happened[of].sum() - probability[of].sum()) < 4 * error, (label, tenth)
    ratio = (clicked["dwell_seconds"] / clicked["true_dwell_seconds"]).to_numpy()
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(len(ratio)))


def test_the_parts_of_the_funnel_multiply(events):
    product = events["true_click"] * events["true_conversion"]
    np.testing.assert_allclose(product, events["true_purchase"], rtol=1e-12)


@pytest.mark.parametrize(("click", "conversion", "bias"), [(-1.7, -0.4, 1.3), (0.5, 2.0, 3.0), (-2.0, -2.0, 0.0)])
def test_the_truth_is_the_mean_over_the_hidden_intent(click, conversion, bias):
    found = FunnelConfig(bias=bias)._truth(np.array([click]), np.array([conversion]))

    def mean(function):
        density = lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi)  # noqa: E731
        return quad(lambda z: density(z) * function(bias * z), -12, 12, limit=200)[0]

    clicks, both = mean(lambda z: expit(click + z)), mean(lambda z: expit(click + z) * expit(conversion + z))
    expected = (clicks, both / clicks, both, mean(lambda z: expit(conversion + z)))
    np.testing.assert_allclose([found[name][0] for name in TRUTH[:4]], expected, rtol=1e-4)


def test_conversion_of_clicks_is_too_high_for_all_and_only_by_the_bias(events):
    assert (events["true_conversion"] > events["true_conversion_of_all"]).all()
    clicked = events.filter(click=1)
    observed, error = rate(clicked, "purchase"), 0.5 / np.sqrt(clicked.height)
    assert observed > 1.2 * rate(events, "true_conversion_of_all"), "learned on clicks, judged over all impressions"
    assert observed > rate(clicked, "true_conversion_of_all") + 5 * error, "the very same rows"
    raw = FunnelConfig(users=1500, items=60, impressions_per_user=40, bias=0).read()
    np.testing.assert_allclose(raw.events["true_conversion"], raw.events["true_conversion_of_all"], rtol=1e-12)


def test_labels_are_known_where_the_funnel_has_come_to(events):
    assert (events["purchase"] <= events["click"]).all()
    assert (events["dwell_seconds"].is_not_null() == (events["click"] == 1)).all()
    assert (events["rating"].is_not_null() == (events["purchase"] == 1)).all()
    assert set(events["rating"].drop_nulls()) <= {1, 2, 3, 4, 5}
    assert not events.select("click", "purchase", *TRUTH).null_count().sum_horizontal().item()


@pytest.mark.parametrize("tail", [0.3, 1.2])
def test_dwell_times_have_the_tail_asked_for(tail):
    clicked = FunnelConfig(users=300, tail=tail).read().events.filter(click=1)
    logs = np.log(clicked["dwell_seconds"]) - np.log(clicked["true_dwell_seconds"])
    assert logs.std() == pytest.approx(tail, rel=0.05)
    assert logs.mean() == pytest.approx(-(tail**2) / 2, abs=0.05)


def test_what_is_planted_is_there(events):
    clicked = events.filter(click=1)
    hours = pl.from_epoch(pl.col("timestamp"), time_unit="ms").dt.hour()
    liked, loud, evening = pl.col("interest") == pl.col("genre"), pl.col("style") == "loud", hours.is_between(*EVENING)
    assert rate(events.filter(liked), "click") > 1.5 * rate(events.filter(~liked), "click")
    assert rate(events.filter(loud), "click") > 1.3 * rate(events.filter(~loud), "click")
    assert rate(clicked.filter(loud), "purchase") < 0.7 * rate(clicked.filter(~loud), "purchase")
    assert rate(clicked.filter(evening), "purchase") > 1.3 * rate(clicked.filter(~evening), "purchase")
    assert rate(clicked.filter(segment="loyal"), "purchase") > 1.5 * rate(clicked.filter(segment="new"), "purchase")
    cheap = pl.col("price") < pl.col("price").median()
    assert rate(clicked.filter(cheap), "purchase") > 1.2 * rate(clicked.filter(~cheap), "purchase")
    assert clicked.filter(liked)["dwell_seconds"].median() > 1.5 * clicked.filter(~liked)["dwell_seconds"].median()


def test_it_is_a_log_with_times_that_every_split_can_cut():
    raw = FunnelConfig(users=80, items=30, impressions_per_user=20).read()
    dataset = Dataset.from_raw(raw, "funnel")
    dataset.validate()
    assert (dataset.info.counts.events, dataset.info.counts.rejected) == (1600, {})
    assert dataset.info.labels == (*LABELS, *TRUTH)
    assert dataset.timestamps is not None
    assert np.ptp(dataset.timestamps) < DAYS * 86_400_000
    for kind in ("user_time", "global_date", "leave_last_out"):
        assert set(np.unique(dataset.add_split(kind, SplitConfig(kind=kind)))) == {0, 1, 2}


def test_the_seed_decides():
    one, again, other = (FunnelConfig(users=20, seed=seed).read() for seed in (1, 1, 2))
    assert one.events.equals(again.events)
    assert one.users.equals(again.users)
    assert not one.events.equals(other.events)
