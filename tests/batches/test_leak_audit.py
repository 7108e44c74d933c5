"""The leak check: silent on an honest feature, and it finds the ways in which features see what they must not."""

import json

import polars as pl
import pytest

from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.leak_audit import audit_leaks
from moerec.dataset.schema import Part
from moerec.dataset.splits import SplitConfig
from moerec.errors import ConfigError
from moerec.features.feature import Catalogue, FeatureState
from moerec.features.spec import FeatureSpec
from tests.batches.small_examples import SPLIT, EarlierConfig, small_dataset, small_vectors


class AtTheTimeConfig(EarlierConfig):
    """Sees events of its own time, and so its own label."""

    def seen(self, time: int, until: int) -> bool:
        return time <= until


class WholeUserConfig(EarlierConfig):
    """Sees all events of the user."""

    def seen(self, time: int, until: int) -> bool:
        return True


class OwnLabelConfig(EarlierConfig):
    """The label that is to be predicted."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        return (FeatureSpec(name="own", kind="dense", side="event"),)

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        keys = ["user", "item", "timestamp"]
        joined = examples.select(keys).join(events, on=keys, how="left", maintain_order="left")
        return joined.select(own=self.label)


class OwnPresenceConfig(OwnLabelConfig):
    """Always 0, but only there where the label is."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        return (FeatureSpec(name="own", kind="dense", side="event", transform="none"),)

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        return super().apply(events, examples, state) * 0.0


class NeighboursConfig(EarlierConfig):
    """Looks at how many events all users have, which no partition of whole users can tell."""

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        found = super().apply(events, examples, state)
        return found.with_columns(earlier_count=pl.lit(float(events.height)))


class ItemMeanConfig(EarlierConfig):
    """The mean rating of the item over the whole train split: the row's own rating is in it."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        return (FeatureSpec(name="encoded", kind="dense", side="item"),)

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        means = train.group_by("item").agg(pl.col(self.label).mean()).sort("item")
        return FeatureState(arrays={"items": means["item"].to_numpy(), "means": means[self.label].to_numpy()})

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        means = pl.DataFrame({"item": state.arrays["items"], "encoded": state.arrays["means"]})
        return examples.select("item").join(means, on="item", how="left", maintain_order="left").select("encoded")


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


def check(dataset, feature, **settings):
    vectors = small_vectors(dataset)
    specs = (FeatureSpec(name="text", kind="vector"), FeatureSpec(name="year", kind="dense"))
    builder = ExampleBuilder.fit(dataset, SPLIT, {"feature": feature}, specs, vectors, 4)
    return audit_leaks(builder, dataset, SPLIT, vectors, **({"sample": 100, "refits": 10} | settings))


def test_an_honest_feature_changes_by_no_bit(dataset):
    report = check(dataset, EarlierConfig())
    assert (report.rows, report.refitted, report.leaks) == (100, 10, ())
    assert [found.name for found in report.inputs][-1] == "history"
    assert all(found.refitted_differing == 0 for found in report.inputs)
    assert [finding.level for finding in report.findings()][:2] == ["ok", "ok"]
    json.dumps(report.to_dict())


@pytest.mark.parametrize(
    ("feature", "leaking", "least"),
    [
        (OwnLabelConfig(), {"own"}, 80),
        (OwnPresenceConfig(), {"own"}, 80),
        (AtTheTimeConfig(), {"earlier_count", "earlier_mean", "earlier_any"}, 1),
        (WholeUserConfig(), {"earlier_count", "earlier_mean", "earlier_any"}, 1),
        (NeighboursConfig(), {"earlier_count"}, 100),
    ],
)
def test_leaks_are_found_and_told(dataset, feature, leaking, least):
    report = check(dataset, feature)
    assert {found.name for found in report.leaks} == leaking
    assert max(found.differing for found in report.leaks) >= least
    first = report.findings()[0]
    assert first.level == "warning"
    assert all(name in first.sentence for name in leaking)


def test_a_target_hidden_in_the_fitted_state_is_noted(dataset):
    report = check(dataset, ItemMeanConfig())
    assert report.leaks == ()
    found = {entry.name: entry.refitted_differing for entry in report.inputs}
    assert found.pop("encoded") > 5
    assert not any(found.values())
    assert report.findings()[1].level == "note"
    assert "encoded" in report.findings()[1].sentence


def test_ties_and_empty_histories_are_counted(dataset):
    report = check(dataset, EarlierConfig(), sample=5, refits=0)
    log = dataset.events.with_columns(part=pl.Series(dataset.split(SPLIT)))
    together = log.group_by("user", "timestamp").len()
    assert report.tied == pytest.approx(together.filter(pl.col("len") > 1)["len"].sum() / log.height)
    first = log.with_columns(empty=pl.col("timestamp") == pl.col("timestamp").min().over("user"))
    for part in (Part.TRAIN, Part.VALID, Part.TEST):
        assert report.empty[part.name.lower()] == pytest.approx(first.filter(part=part)["empty"].mean())


def test_the_sample_is_the_same_for_the_same_seed(dataset):
    reports = [check(dataset, AtTheTimeConfig(), sample=20, refits=2, seed=seed) for seed in (3, 3)]
    assert reports[0] == reports[1]


def test_a_builder_of_another_split_is_refused(dataset):
    builder = ExampleBuilder.fit(dataset, SPLIT, {"feature": EarlierConfig()})
    other = small_dataset()
    other.add_split("other", SplitConfig(kind="leave_last_out"))
    with pytest.raises(ConfigError, match="fit both on the same split"):
        audit_leaks(builder, other, "other")
