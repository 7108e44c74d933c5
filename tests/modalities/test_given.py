"""Vectors that exist already: aligned by item id, and never made up."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import ConfigError, DatasetError
from moerec.modalities.given import align, read_item_ids, read_matrix


@settings(max_examples=50)
@given(st.permutations(list("abcdef")), st.permutations(list("abcxyz")), st.integers(0, 2**20))
def test_each_item_gets_its_own_row(catalogue, rows, seed):
    matrix = np.random.default_rng(seed).normal(size=(6, 3))
    vectors, reasons, unused = align(matrix, rows, catalogue, "absent", "m.npy")
    assert unused == 3
    for item, vector, reason in zip(catalogue, vectors, reasons, strict=True):
        if item in rows:
            assert reason is None
            assert np.array_equal(vector, matrix[rows.index(item)].astype(np.float32))
        else:
            assert reason == "no row for that item id"
            assert not vector.any()


def test_zero_and_not_finite_rows():
    matrix = np.array([[0, 0], [1, np.nan], [1, 2]])
    vectors, reasons, _ = align(matrix, list("abc"), list("abc"), "absent", "m.npy")
    assert reasons == ["a row of zeros", "not finite", None]
    _, reasons, _ = align(matrix, list("abc"), list("abc"), "present", "m.npy")
    assert reasons == [None, "not finite", None]
    assert vectors.dtype == np.float32


def test_ids_and_rows_must_agree():
    with pytest.raises(DatasetError, match="2 rows, but 3 item ids"):
        align(np.ones((2, 2)), list("abc"), list("abc"), "absent", "m.npy")
    with pytest.raises(DatasetError, match="none of its item ids is in the catalogue \\(the first is 'x'\\)"):
        align(np.ones((1, 2)), ["x"], list("abc"), "absent", "m.npy")


def test_matrices(tmp_path):
    matrix = np.arange(6, dtype=np.float64).reshape(3, 2)
    np.save(tmp_path / "m.npy", matrix)
    torch.save(torch.from_numpy(matrix).half(), tmp_path / "m.pt")
    torch.save(torch.from_numpy(matrix).bfloat16().requires_grad_(), tmp_path / "b.pt")
    for name in ("m.npy", "m.pt", "b.pt"):
        assert np.array_equal(np.asarray(read_matrix(tmp_path / name), np.float64), matrix)


def test_what_is_no_matrix_is_refused(tmp_path):
    def refused(name, match):
        with pytest.raises(DatasetError, match=match) as error:
            read_matrix(tmp_path / name)
        assert "\n" not in str(error.value)

    refused("none.npy", "no such file of vectors")
    np.save(tmp_path / "flat.npy", np.ones(3))
    refused("flat.npy", "a matrix")
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    refused("text.npy", "a matrix")
    np.save(tmp_path / "pickled.npy", np.array([[{}]]), allow_pickle=True)
    refused("pickled.npy", "not a .npy matrix")
    np.save(tmp_path / "cut.npy", np.ones((9, 9)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-8])
    refused("cut.npy", "not a .npy matrix")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    refused("junk.pt", "cannot be read|not a tensor")
    torch.save({"a": torch.ones(2, 2)}, tmp_path / "dict.pt")
    refused("dict.pt", "holds a dict")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pt")
    refused("module.pt", "not a tensor that can be read safely")
    (tmp_path / "m.csv").write_text("1")
    refused("m.csv", "read from .npy and .pt")


def test_ids_keep_their_zeros_in_every_format(tmp_path):
    ids = ["007", "8", "x y"]
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    pl.DataFrame({"item_id": ids}).write_csv(tmp_path / "one.csv")
    pl.DataFrame({"n": [1, 2, 3], "item_id": ids}).write_csv(tmp_path / "two.csv")
    pl.DataFrame({"n": [1, 2, 3], "item_id": ids}).write_csv(tmp_path / "two.tsv", separator="\t")
    pl.DataFrame({"item_id": ids}).write_parquet(tmp_path / "ids.parquet")
    for path in tmp_path.iterdir():
        assert read_item_ids(path, "item_id") == ids
    pl.DataFrame({"item_id": [5, 6]}).write_parquet(tmp_path / "whole.parquet")
    assert read_item_ids(tmp_path / "whole.parquet", "item_id") == ["5", "6"]


def test_wrong_ids_are_one_line(tmp_path):
    def refused(text, match, name="ids.json", error_type=DatasetError):
        (tmp_path / name).write_text(text)
        with pytest.raises(error_type, match=match) as error:
            read_item_ids(tmp_path / name, "item_id")
        assert "\n" not in str(error.value)

    refused('["a", "a"]', "item id 'a' stands for several rows")
    refused('["a", ""]', "the id of row 2 is empty")
    refused('{"a": 1}', "a list of strings")
    refused("[", "cannot be read")
    refused("id,n\na,1\n", "no column 'item_id'", "ids.csv", ConfigError)
    refused("x", "read from .json", "ids.txt", ConfigError)
    with pytest.raises(DatasetError, match="no such file of item ids"):
        read_item_ids(tmp_path / "none.csv", "item_id")
