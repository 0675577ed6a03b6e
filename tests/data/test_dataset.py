"""`Dataset`: what it accepts, what it refuses, and which batches it yields."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shohin.core.errors import DataError
from shohin.core.philox import permutation
from shohin.data import Dataset


def numbered(n, classes=None):
    """Row i has x = [i, -i] and label i."""
    i = np.arange(n)
    return Dataset(np.stack([i, -i], 1).astype(np.float32), i, classes=classes)


def test_holds_arrays_of_equal_length():
    data = Dataset([[1.0, 2.0], [3.0, 4.0]], [1, 0], classes=["a", "b"])
    assert len(data) == 2
    assert data.x.shape == (2, 2) and data.y.dtype == np.int64 and data.classes == ("a", "b")
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.x = 0
    with pytest.raises(ValueError, match="read-only"):
        data.x[0, 0] = 5


def test_does_not_copy_and_leaves_the_callers_array_writable():
    x = np.zeros((3, 2), np.float32)
    data = Dataset(x, np.zeros(3))
    assert np.shares_memory(data.x, x) and np.shares_memory(data.take(2).x, x)
    x[0, 0] = 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64, np.bool_])
def test_labels_become_int64(dtype):
    assert Dataset(np.zeros((2, 1)), np.array([0, 1], dtype), classes="ab").y.dtype == np.int64


def test_targets_without_classes_stay_as_they_are():
    assert Dataset(np.zeros((2, 1)), np.float32([-1.5, 2])).y.dtype == np.float32
    assert Dataset(np.zeros((2, 1)), np.int16([-5, 7])).y.tolist() == [-5, 7]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Dataset(np.zeros((3, 2)), np.zeros(2)), "x has 3 rows and y has 2"),
        (lambda: Dataset(np.zeros((0, 2)), np.zeros(0)), "no examples"),
        (lambda: Dataset(1.0, [1]), "x is a single value"),
        (lambda: Dataset([[1], [2, 3]], [1, 2]), "x is no array"),
        (lambda: Dataset(["a", "b"], [1, 2]), "x has dtype <U1, expected numbers"),
        (lambda: Dataset([1, 2], [0, 2], classes="ab"), r"y, row 1 is 2, expected 0 to 1 \(the 2 classes a, b\); 1 l"),
        (lambda: Dataset([1, 2], [-1, 0], classes="ab"), "y, row 0 is -1"),
        (lambda: Dataset([1, 2], [True, True], classes="a"), "y, row 0 is 1"),
        (lambda: Dataset([1, 2], [[0, 1], [0, 7]], classes="ab"), r"y, row 1 is 7 at \[1\]"),
        (lambda: Dataset([1, 2], np.uint64([0, 2**64 - 1]), classes="ab"), "y, row 1 is 18446744073709551615"),
        (lambda: Dataset([1, 2], [0.0, 1.0], classes="ab"), r"y has dtype float64; .*astype\('int64'\)"),
        (lambda: Dataset([1, 2], [0, 1], classes=("a", "a")), r"classes\[0\] and classes\[1\] are both 'a'"),
        (lambda: Dataset([1, 2], [0, 1], classes=(0, 1)), r"classes\[0\] is 0"),
        (lambda: Dataset([[1.0, 2.0], [3.0, np.nan]], [0, 1]), r"x, row 1 holds nan at \[1\]"),
        (lambda: Dataset([1, 2], [0.5, np.inf]), "y, row 1 holds inf; drop"),
    ],
)  # fmt: skip
def test_refuses(make, message):
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
def test_finds_nan_in_each_dtype(dtype):
    x = np.zeros((3, 2), dtype)
    Dataset(x, np.zeros(3))
    x[2, 1] = np.nan
    with pytest.raises(DataError, match="x, row 2 holds nan"):
        Dataset(x, np.zeros(3))


def test_integers_of_ml_dtypes_have_no_nan():
    assert len(Dataset(np.zeros((3, 2), ml_dtypes.int4), np.zeros(3))) == 3


def test_finds_nan_beyond_the_first_piece(monkeypatch):
    monkeypatch.setattr("shohin.data.dataset._CHECK_BYTES", 16)
    x = np.zeros((100, 3), np.float32)
    x[97, 2] = -np.inf
    with pytest.raises(DataError, match=r"row 97 holds -inf at \[2\]"):
        Dataset(x, np.zeros(100))


def test_reads_like_a_sequence():
    data = numbered(5)
    assert data[3][1] == 3 and data[-1][1] == 4
    assert data[1:4].y.tolist() == [1, 2, 3]
    assert data[[4, 0]].y.tolist() == [4, 0]
    assert data[data.y > 2].y.tolist() == [3, 4]
    assert [int(y) for _, y in data] == [0, 1, 2, 3, 4]
    with pytest.raises(IndexError):
        data[5]
    with pytest.raises(DataError, match="selects none"):
        data[5:]


def test_repr():
    data = Dataset(np.zeros((1200, 28, 28, 1), np.float32), np.zeros(1200, int), classes=list("abcdef"))
    assert repr(data) == "Dataset(1,200 examples, x float32 [28, 28, 1], y int64, classes a, b, c, d, ... (6))"
    assert repr(numbered(3)) == "Dataset(3 examples, x float32 [2], y int64)"


def test_take():
    assert numbered(5).take(5).y.tolist() == [0, 1, 2, 3, 4]
    for n in (0, 6, -1, 2.0, True):
        with pytest.raises(DataError, match=r"take: n is .*, expected 1 to 5"):
            numbered(5).take(n)


@given(st.integers(2, 50), st.data())
def test_split_parts_the_examples(n, data):
    count = data.draw(st.integers(1, n - 1))
    first, second = numbered(n).split(count, key=data.draw(st.integers(0, 9)))
    assert len(first) == count
    assert sorted([*first.y, *second.y]) == list(range(n))
    assert np.array_equal(first.x[:, 0], first.y) and np.array_equal(second.x[:, 1], -second.y)


def test_split():
    data = numbered(100, classes=[str(i) for i in range(100)])
    train, valid = data.split(0.9)
    assert (len(train), len(valid)) == (90, 10) and valid.classes == data.classes
    assert train.y.tolist() == data.split(0.9, key=0)[0].y.tolist() != data.split(0.9, key=1)[0].y.tolist()
    assert [len(part) for part in data.split(0.29)] == [29, 71]  # 0.29 * 100 is below 29 in binary
    assert data.split(7, key=None)[0].y.tolist() == list(range(7))
    assert data.split(99)[0].y.tolist() != permutation(100, 0)[:99].tolist()  # no epoch's order


@pytest.mark.parametrize("part", [0, 5, -1, 1.0, 0.0, 1.5, 0.01, True, "half", float("nan")])
def test_split_refuses(part):
    with pytest.raises(DataError, match="split: "):
        numbered(5).split(part)


def test_map():
    data = numbered(4, classes="abcd").map(lambda x: x * 2, y=lambda y: y % 2, classes=("even", "odd"))
    assert data.x[3].tolist() == [6, -6] and data.y.tolist() == [0, 1, 0, 1] and data.classes == ("even", "odd")
    assert numbered(4, classes="abcd").map(lambda x: x).classes == tuple("abcd")
    with pytest.raises(DataError, match=r"map: the function of x returned shape \(2,\) for 4 rows"):
        numbered(4).map(lambda x: x[0])
    with pytest.raises(DataError, match="x, row 0 holds inf"):
        with np.errstate(divide="ignore"):
            numbered(4).map(lambda x: 1 / np.abs(x))
    with pytest.raises(DataError, match="y, row 0 is 5"):
        numbered(4, classes="abcd").map(y=lambda y: y + 5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 3), st.integers(0, 3))
def test_shuffled_batches_are_the_permutation_without_the_rest(n, batch, key, epoch):
    if batch > n:
        return
    got = list(numbered(n).batches(batch, key=key, epoch=epoch))
    assert len(got) == n // batch
    assert all(x.shape == (batch, 2) and y.shape == (batch,) for x, y in got)
    order = np.concatenate([y for _, y in got])
    assert np.array_equal(order, permutation(n, key, epoch)[: n // batch * batch])
    assert np.array_equal(np.concatenate([x for x, _ in got])[:, 0], order)


@given(st.integers(1, 40), st.integers(1, 50))
def test_batches_in_order_are_padded_and_masked(n, batch):
    got = list(numbered(n).batches(batch, shuffle=False))
    assert len(got) == -(-n // batch)
    assert all(x.shape == (batch, 2) and y.shape == mask.shape == (batch,) for x, y, mask in got)
    x, y, mask = (np.concatenate(column) for column in zip(*got, strict=True))
    assert mask.dtype == np.bool_ and mask.tolist() == [i < n for i in range(len(mask))]
    assert y[mask].tolist() == list(range(n)) and not y[~mask].any() and not x[~mask].any()
    assert x.dtype == np.float32 and y.dtype == np.int64


def test_an_epoch_is_repeatable_and_epochs_differ():
    def epoch(**how):
        return [y.tolist() for _, y in numbered(30).batches(7, **how)]

    assert epoch() == epoch(key=0, epoch=0) != epoch(epoch=1) != epoch(key=1, epoch=1)


def test_batches_refuse_at_the_call_not_at_the_first_batch():
    for n in (0, -1, 1.5, True):
        with pytest.raises(DataError, match="batches: n is"):
            numbered(5).batches(n)
    with pytest.raises(DataError, match=r"a batch of 6 from 5 examples would yield nothing.*shuffle=False"):
        numbered(5).batches(6)


def test_digest_changes_with_every_part():
    x, y = np.zeros((4, 2), np.float32), np.arange(4)
    other = x.copy()
    other[3, 1] = -0.0
    sets = [
        Dataset(x, y), Dataset(other, y), Dataset(x, y[::-1]), Dataset(x.astype(np.float64), y),
        Dataset(x.reshape(4, 1, 2), y), Dataset(x, y, classes="abcd"), Dataset(x, y).take(3),
    ]  # fmt: skip
    assert len({data.digest() for data in sets}) == len(sets)
    assert Dataset(x.copy(), y.copy()).digest() == Dataset(x[::-1], y).digest() == sets[0].digest()
