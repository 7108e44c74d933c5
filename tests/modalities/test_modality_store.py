"""The store: what is written comes back, and what is damaged or foreign is refused."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from moerec.errors import DatasetError
from moerec.modalities.store import ModalityStore, catalogue_ids, store_from_rows


def make(num_items=3, dim=4, absent=(1,), seed=0) -> ModalityStore:
    vectors = np.random.default_rng(seed).normal(size=(num_items, dim)).astype(np.float32)
    reasons = ["no text" if item in absent else None for item in range(num_items)]
    return store_from_rows(vectors, reasons, [f"i{item}" for item in range(num_items)], {"encoder": "test"})


@settings(max_examples=50)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-5, 5, width=32)),
    st.data(),
)
def test_rows_keep_their_place_and_absent_ones_are_zero(vectors, data):
    present = data.draw(arrays.arrays(np.bool_, len(vectors)).filter(lambda mask: mask.any()))
    reasons = [None if there else "gone" for there in present]
    store = store_from_rows(vectors, reasons, [str(i) for i in range(len(vectors))], {})
    assert store.vectors.dtype == np.float32
    assert store.num_items == len(vectors)
    assert not store.present[:2].any()
    assert np.array_equal(store.present[2:], present)
    assert np.array_equal(store.vectors[store.present], vectors[present])
    assert not store.vectors[~store.present].any()
    assert store.metadata["counts"]["absent"] == store.metadata["absence"]["reasons"].get("gone", 0)
    assert store.metadata["counts"]["present"] == store.num_present


def test_a_saved_store_is_mapped_and_equal(tmp_path):
    store = make(50, 7, absent=(0, 9))
    path = tmp_path / "text.safetensors"
    store.save(path)
    loaded = ModalityStore.load(path, num_items=50)
    assert np.array_equal(loaded.vectors, store.vectors)
    assert np.array_equal(loaded.present, store.present)
    assert loaded.metadata == store.metadata
    assert isinstance(loaded.vectors, np.memmap)
    # Changes stay in memory.
    loaded.vectors[2] = 1
    assert np.array_equal(ModalityStore.load(path).vectors, store.vectors)
    assert [p.name for p in tmp_path.iterdir()] == ["text.safetensors"]


def test_other_libraries_read_the_file(tmp_path):
    from safetensors.numpy import load_file

    store = make()
    store.save(tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    assert np.array_equal(tensors["vectors"], store.vectors)
    assert np.array_equal(tensors["present"], store.present)


def test_every_cut_of_the_file_is_refused(tmp_path):
    make().save(tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in {0, 4, 8, 40, *range(0, len(whole), 37), len(whole) - 1}:
        cut.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"cut\.safetensors: the file is cut short or damaged") as error:
            ModalityStore.load(cut)
        assert "\n" not in str(error.value)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(DatasetError, match="damaged"):
        ModalityStore.load(cut)


def test_the_wrong_catalogue_is_refused(tmp_path):
    make(3).save(tmp_path / "m.safetensors")
    with pytest.raises(DatasetError, match="vectors of 3 items, the catalogue has 4 items"):
        ModalityStore.load(tmp_path / "m.safetensors", num_items=4)


def test_foreign_and_missing_files_are_refused(tmp_path):
    from safetensors.numpy import save_file

    with pytest.raises(DatasetError, match="no such modality file"):
        ModalityStore.load(tmp_path / "none.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, foreign)
    with pytest.raises(DatasetError, match="not a modality store"):
        ModalityStore.load(foreign)
    save_file(
        {"vectors": np.zeros((3, 2)), "present": np.zeros(3, bool)}, foreign, metadata={"moerec": '{"format": 1}'}
    )
    with pytest.raises(DatasetError, match="tensor of type F64"):
        ModalityStore.load(foreign)
    mask = np.array([True, False, True])
    save_file({"vectors": np.zeros((3, 2), np.float32), "present": mask}, foreign, metadata={"moerec": '{"format": 1}'})
    with pytest.raises(DatasetError, match="rows 0 and 1"):
        ModalityStore.load(foreign)
    save_file(
        {"vectors": np.zeros((3, 2), np.float32), "present": ~mask}, foreign, metadata={"moerec": '{"format": 1}'}
    )


def test_a_modality_that_nobody_has_is_an_error_with_its_reasons():
    with pytest.raises(DatasetError, match="no item has this modality \\(no text: 2\\)"):
        make(2, absent=(0, 1))
    with pytest.raises(DatasetError, match="catalogue is empty"):
        make(0)


def test_vectors_that_are_not_finite_are_refused():
    vectors = np.full((2, 2), np.nan, np.float32)
    with pytest.raises(DatasetError, match="NaN"):
        store_from_rows(vectors, [None, "x"], ["a", "b"], {})


def test_the_fingerprint_follows_vectors_and_mask():
    assert make().metadata["fingerprint"] == make().metadata["fingerprint"]
    assert make().metadata["fingerprint"] != make(seed=1).metadata["fingerprint"]
    vectors = np.array([[0, 0], [1, 2]], np.float32)
    absent, zero = (store_from_rows(vectors, [reason, None], ["a", "b"], {}) for reason in ("gone", None))
    assert absent.metadata["fingerprint"] != zero.metadata["fingerprint"]


def test_the_item_table_must_be_in_order():
    items = pl.DataFrame({"item": [2, 3], "item_id": ["x", "y"]})
    assert catalogue_ids(items) == ["x", "y"]
    with pytest.raises(DatasetError, match="order"):
        catalogue_ids(items.reverse())
    with pytest.raises(DatasetError, match="item_id"):
        catalogue_ids(items.drop("item_id"))
