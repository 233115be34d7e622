"""HDF5 as ann-benchmarks writes it: which dataset, its ids, its metric, and what a hostile file cannot do."""

from __future__ import annotations

import os
import random
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embreg.registry.errors import EmbregError, InputError, UsageError
from embreg.registry.formats import Options, hdf5, open_source, write_table
from embreg.registry.tables import EmbeddingTable
from embreg.registry.types import Space

h5py = pytest.importorskip("h5py")

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
FUZZ = runpy.run_path(str(Path(__file__).with_name("test_formats_fuzz.py")))


def rows_of(path, **options):
    source = open_source(path, options=Options(**options))
    batches = list(source.batches())
    names = None if batches[0].ids is None else [name for b in batches for name in b.ids.to_pylist()]
    assert all(b.vectors.flags.c_contiguous and b.vectors.flags.writeable for b in batches)
    x = np.concatenate([b.vectors for b in batches])
    assert (len(x), x.shape[1], x.dtype.name) == (source.rows, source.dim, source.dtype)
    return source, names, x


def refusal(path, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **options)
    assert str(path) in caught.value.message
    assert caught.value.hint
    assert str(caught.value).isprintable()
    return caught.value


@pytest.fixture
def made(tmp_path):
    """A maker of files: datasets by name, and attributes."""

    def make(datasets, name="v.hdf5", **attributes):
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in datasets.items():
                file.create_dataset(key, data=value)
            file.attrs.update(attributes)
        return tmp_path / name

    return make


def benchmark(train=X) -> dict[str, np.ndarray]:
    return {
        "train": train,
        "test": X[:2] + 1,
        "neighbors": np.zeros((2, 3), np.int32),
        "distances": np.ones((2, 3), np.float32),
    }


# -- what is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "metric"),
    [("angular", "cosine"), ("Euclidean", "l2"), ("dot", "dot"), ("ip", "dot"), (b"angular", "cosine")],
)
def test_a_benchmark_says_its_metric(distance, metric, made):
    source, names, x = rows_of(made(benchmark(), distance=distance, dimension=3))
    assert (source.format, source.declares, source.warnings) == ("hdf5", {"metric": metric}, ())
    assert names is None
    assert x.tobytes() == X.tobytes()


def test_an_unknown_metric_is_told_and_none_is_no_matter(made):
    source = open_source(made(benchmark(), distance="hamming"))
    assert (source.declares, source.warnings) == (
        {},
        ("its distance 'hamming' is none that is known: say --metric",),
    )
    assert open_source(made(benchmark(), "w.h5")).declares == {}
    assert open_source(made(benchmark(), "x.hdf", distance=5)).declares == {}


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f4", ">f8", "longdouble"])
@pytest.mark.parametrize(
    "storage",
    [{}, {"chunks": (4, 2)}, {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (7, 3)},
     {"compression": "lzf", "chunks": (40, 1), "maxshape": (None, 3)}],
)  # fmt: skip
def test_every_float_however_it_is_stored(dtype, storage, tmp_path):
    x = np.random.default_rng(0).normal(size=(33, 3)).astype(dtype)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("train", data=x, **storage)
    source, _, y = rows_of(tmp_path / "v.h5")
    kept = np.float16 if x.itemsize == 2 else np.float32
    assert y.tobytes() == x.astype(kept).tobytes()
    rounded = (f"float{8 * x.itemsize} values were rounded to float32",) if x.itemsize > 4 else ()
    assert source.warnings == rounded


def test_another_dataset_is_named(made):
    path = made(benchmark())
    assert np.array_equal(rows_of(path, tensor="test")[2], X[:2] + 1)
    assert np.array_equal(rows_of(path, tensor="/test")[2], X[:2] + 1)
    assert "did you mean 'train'?" in refusal(path, tensor="trian").hint
    assert "datasets: distances (2 x 3), neighbors (2 x 3)" in refusal(path, tensor="?").hint
    assert "dataset 'neighbors': holds <i4, not floats" in refusal(path, tensor="neighbors").message


def test_the_only_table_needs_no_name(made, tmp_path):
    assert np.array_equal(rows_of(made({"emb": X, "labels": np.arange(4), "mean": X[0]}))[2], X)
    several = refusal(made({"a": X, "b": X}))
    assert "several datasets could be the table: a (4 x 3), b (4 x 3)" in several.message
    assert "--tensor" in several.hint
    assert "among: labels (4)" in refusal(made({"labels": np.arange(4)})).message
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file.attrs["distance"] = "angular"
        file["nothing"] = h5py.Empty("f4")
    assert "no two-dimensional dataset" in refusal(tmp_path / "none.h5").message


@pytest.mark.parametrize(
    ("train", "what"),
    [
        (X.astype(np.uint8), "dataset 'train': holds |u1, not floats"),
        (X[0], "1 dimensions, not 2"),
        (X[None], "3 dimensions, not 2"),
        (X[:0], "holds no rows"),
        (X[:, :0], "dimension 0"),
        (np.float32(1), "0 dimensions"),
        (["a", "b"], "holds strings, not floats"),
    ],
)
def test_what_is_no_table_of_floats(train, what, made):
    assert what in refusal(made({"train": train})).message


def test_groups_are_looked_into(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a/b/emb"] = X
        file["a/b/up"] = file["a"]
        file["a/b/self"] = file["a/b"]
    assert np.array_equal(rows_of(tmp_path / "v.h5")[2], X)
    assert np.array_equal(rows_of(tmp_path / "v.h5", tensor="a/b/emb")[2], X)


# -- ids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids",
    [np.array(["ä", "b b", "", "d\n"], dtype=h5py.string_dtype()),
     np.array([b"\xc3\xa4", b"b b", b"", b"d\n"], dtype="S5")],
)  # fmt: skip
def test_ids_in_the_file(ids, made):
    path = made({"train": X, "ids": ids, "other": np.arange(5, 9)})
    assert rows_of(path)[1] == ["ä", "b b", "", "d\n"]
    assert rows_of(path, id_column="other")[1] == ["5", "6", "7", "8"]
    assert "did you mean 'other'?" in refusal(path, id_column="othr").hint


def test_ids_that_do_not_fit(made):
    path = made({"train": X, "words": np.array(list("abc"), dtype=h5py.string_dtype()), "half": X[0]})
    assert rows_of(path)[1] is None
    assert "dataset 'words': 3 ids for 4 rows" in refusal(path, id_column="words").message
    assert "not a list of strings or integers" in refusal(path, id_column="half").message
    assert "no dataset 'train'" in refusal(path, id_column="train").message


def test_ids_in_another_encoding(made):
    path = made({"train": X, "ids": np.array([b"\xe4", b"b", b"c", b"d"], dtype="S1")})
    assert rows_of(path, encoding="latin-1")[1] == ["ä", "b", "c", "d"]
    assert "dataset 'ids': ids that are no text" in refusal(path).message


def test_many_ids_in_many_pieces(made, monkeypatch):
    x = np.random.default_rng(0).normal(size=(9001, 2)).astype(np.float32)
    names = [f"w{i}" * (i % 7) + str(i) for i in range(9001)]
    path = made({"train": x, "ids": np.array(names, dtype=h5py.string_dtype())})
    assert rows_of(path)[1] == names


def test_a_tokenizer_names_and_marks_the_rows(made, tmp_path):
    (tmp_path / "vocab.json").write_text('{"the": 0, "<s>": 1, "of": 2}')
    batches = list(open_source(made({"train": X}), options=Options(ids=tmp_path / "vocab.json")).batches())
    assert batches[0].ids.to_pylist() == ["the", "<s>", "of", "<unused:3>"]
    assert batches[0].attributes.to_pydict() == {"special": [False, True, False, True]}


# -- an export -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    x=hnp.arrays(st.sampled_from(["float32", "float16"]), st.tuples(st.integers(1, 6), st.integers(1, 4)),
                 elements=st.floats(width=16, allow_nan=False)),
    data=st.data(),
)  # fmt: skip
def test_an_export_reads_back_the_same(x, data, tmp_path):
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
    ids = data.draw(st.lists(text, min_size=len(x), max_size=len(x)))
    write_table(EmbeddingTable.from_arrays(ids, x), tmp_path / "v.h5", overwrite=True)
    _, names, y = rows_of(tmp_path / "v.h5")
    assert (names, y.dtype, y.tobytes()) == (ids, x.dtype, x.tobytes())


@pytest.mark.parametrize(("metric", "distance"), [("cosine", "angular"), ("l2", "euclidean"), ("dot", "dot")])
def test_an_export_is_what_the_library_reads(metric, distance, tmp_path):
    table = EmbeddingTable.from_arrays(list("äbcd"), X, space=Space(dim=3, metric=metric))
    assert write_table(table, tmp_path / "v.hdf5") == ()
    with h5py.File(tmp_path / "v.hdf5") as file:
        assert sorted(file) == ["ids", "train"]
        assert file["train"].dtype == np.float32
        assert file["train"][:].tobytes() == X.tobytes()
        assert file["ids"].asstr()[:].tolist() == list("äbcd")
        assert file.attrs["distance"] == distance
    assert open_source(tmp_path / "v.hdf5").declares == {"metric": metric}


def test_there_and_back_keeps_the_content_digest(registry, table, tmp_path):
    first = registry.register("a", table(rows=300, dim=5), metric="l2").version
    registry.export("a", tmp_path / "a.h5")
    second = registry.register("b", tmp_path / "a.h5").version
    assert (second.content_digest, second.space.metric) == (first.content_digest, "l2")


@pytest.mark.parametrize("write", [False, True])
def test_without_h5py_there_is_a_remedy(write, made, tmp_path, monkeypatch):
    path = made(benchmark())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="HDF5 needs the package h5py") as caught:
        if write:
            write_table(EmbeddingTable.from_arrays(None, X), tmp_path / "w.h5")
        else:
            open_source(path)
    assert caught.value.hint == "pip install 'embreg[hdf5]'"
    assert not (tmp_path / "w.h5").exists()


# -- nothing out of the file ---------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path) -> Path:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["train"] = X
    return tmp_path / "secret.h5"


@pytest.mark.parametrize("link", [h5py.ExternalLink("secret.h5", "train"), h5py.SoftLink("/real")])
def test_links_are_not_followed(link, secret, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["real"] = X
        file["train"] = link
    assert np.array_equal(h5py.File(tmp_path / "v.h5")["train"], X)  # the link leads somewhere
    for options in ({}, {"tensor": "train"}):
        error = refusal(tmp_path / "v.h5", **options)
        assert "dataset 'train': a link, which may lead out of the file" in error.message
    assert "no dataset 'train'" in refusal(tmp_path / "v.h5", tensor="real", id_column="train").message


def test_a_group_behind_a_link_is_not_entered(secret, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["there"] = h5py.ExternalLink("secret.h5", "/")
    assert "no dataset 'there/train'" in refusal(tmp_path / "v.h5", tensor="there/train").message


def test_virtual_datasets_and_external_storage_are_not_read(secret, tmp_path):
    layout = h5py.VirtualLayout((4, 3), np.float32)
    layout[:] = h5py.VirtualSource(secret, "train", (4, 3))
    (tmp_path / "raw").write_bytes(X.tobytes())
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("external", (4, 3), np.float32, external=[(tmp_path / "raw", 0, X.nbytes)])
    with h5py.File(tmp_path / "v.h5") as file:
        assert np.array_equal(file["virtual"], X)
        assert np.array_equal(file["external"], X)
    for name in ("virtual", "external"):
        error = refusal(tmp_path / "v.h5", tensor=name)
        assert f"dataset '{name}': its numbers lie in other files or datasets" in error.message


# -- promises ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "storage", [{"chunks": (1000, 300)}, {}, {"chunks": (1000, 300), "compression": "gzip"}]
)
def test_rows_that_were_never_written(storage, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        rows = 10**12 if storage else 10**9
        train = file.create_dataset("train", (rows, 300), np.float32, fillvalue=1.5, **storage)
        if storage:
            train[:1000] = 2
    error = refusal(tmp_path / "v.h5")
    assert "bytes, of which the file holds" in error.message
    assert "never written" in error.hint


@pytest.mark.parametrize(("level", "read"), [(9, False), (1, True)])
def test_packing_beyond_belief(level, read, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("train", data=np.zeros((200_000, 100), np.float32), compression="gzip",
                            compression_opts=level, chunks=(100_000, 100))  # fmt: skip
    if read:
        assert not rows_of(tmp_path / "v.h5")[2].any()
    else:
        assert "packed over 1000 times" in refusal(tmp_path / "v.h5").message


def test_a_chunk_beyond_memory(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        train = file.create_dataset(
            "train", (10_000_000, 10), np.float32, chunks=(10_000_000, 10), compression="gzip"
        )
        train.id.write_direct_chunk((0, 0), os.urandom(1 << 20))
    assert "chunks of (10000000, 10), over 256 MiB each" in refusal(tmp_path / "v.h5").message


def test_an_unknown_filter_is_named(tmp_path):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((4, 3))
    plan.set_filter(32099, h5py.h5z.FLAG_OPTIONAL)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        space = h5py.h5s.create_simple((4, 3))
        made = h5py.h5d.create(file.id, b"train", h5py.h5t.IEEE_F32LE, space, plan)
        h5py.Dataset(made)[:] = X
    error = refusal(tmp_path / "v.h5")
    assert "packed with a filter that is not here: 32099" in error.message
    assert "h5repack" in error.hint


def test_plugins_of_the_surroundings_are_not_loaded(monkeypatch):
    monkeypatch.setenv("HDF5_PLUGIN_PATH", "/evil")
    monkeypatch.setenv("HDF5_VOL_CONNECTOR", "evil")
    found = hdf5.child._environment()
    assert {k: v for k, v in found.items() if k.startswith("HDF5_")} == {
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_USE_FILE_LOCKING": "FALSE",
    }


# -- damage --------------------------------------------------------------------------------------------------


def test_no_truncated_file_is_read(tmp_path):
    write_table(EmbeddingTable.from_arrays(list("abcd"), X), tmp_path / "v.h5")
    whole = (tmp_path / "v.h5").read_bytes()
    for length in range(1, len(whole), len(whole) // 12):
        (tmp_path / "v.h5").write_bytes(whole[:length])
        refusal(tmp_path / "v.h5")


def test_a_damaged_chunk_is_found(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        train = file.create_dataset("train", data=X, chunks=(4, 3), fletcher32=True)
        where = train.id.get_chunk_info(0).byte_offset
    whole = bytearray((tmp_path / "v.h5").read_bytes())
    whole[where + 5] ^= 1
    (tmp_path / "v.h5").write_bytes(whole)
    assert "the HDF5 library cannot read it" in refusal(tmp_path / "v.h5").message


def test_damaged_files_end_in_our_errors(tmp_path):
    """Every case is a process or two: a crash or an endless loop of the library is one error here."""
    path = tmp_path / "v.h5"
    ended = {"read": 0, "refused": 0}
    with h5py.File(path, "w") as file:
        file.create_dataset("train", data=X, compression="gzip", shuffle=True)
        file.create_dataset("ids", data=list("abcd"), dtype=h5py.string_dtype())
        file.attrs["distance"] = "angular"
    whole = path.read_bytes()
    for case in range(16):
        path.write_bytes(FUZZ["mutated"](whole, random.Random(case)))
        began = time.perf_counter()
        try:
            FUZZ["consume"](path, Options(), "hdf5")
            ended["read"] += 1
        except EmbregError as exc:
            ended["refused"] += 1
            assert str(exc).isprintable()
        assert time.perf_counter() - began < 20, case
    assert ended["refused"] > 6


def test_a_file_without_end_is_stopped(made, monkeypatch):
    """An object of the heap that is 16 bytes less than nothing long is followed by itself."""
    monkeypatch.setattr(hdf5.child, "_SECONDS", 1)
    path = made(benchmark(), distance="angular")
    damaged = bytearray(path.read_bytes())
    length = damaged.index(b"GCOL") + 24
    damaged[length : length + 8] = (2**64 - 16).to_bytes(8, "little")
    path.write_bytes(damaged)
    assert "the HDF5 library found no end of it, and was stopped" in refusal(path).message


def test_a_reader_that_stops_leaves_no_process(tmp_path):
    write_table(EmbeddingTable.from_arrays(None, np.zeros((200_000, 30), np.float32)), tmp_path / "v.h5")
    mine = psutil.Process()
    before = set(mine.children())  # of an earlier test, kept by the traceback of its error
    batches = open_source(tmp_path / "v.h5").batches()
    next(batches)
    assert set(mine.children()) - before
    batches.close()
    deadline = time.monotonic() + 10
    while set(mine.children()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(mine.children()) - before


MEMORY = """
import sys
from embreg.registry.formats import open_source
import numpy, pyarrow
def now():
    return int([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]) / 1024
before = now()
rows = sum(len(b.vectors) for b in open_source(sys.argv[1]).batches())
import resource
print(rows, now() - before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_source(tmp_path):
    """200 MB of vectors pass through less than 100 MB here, and 150 MB in the process that reads."""
    rows, dim = 200_000, 250
    with h5py.File(tmp_path / "v.h5", "w") as file:
        train = file.create_dataset("train", (rows, dim), np.float32)
        block = np.random.default_rng(0).normal(size=(10_000, dim)).astype(np.float32)
        for start in range(0, rows, 10_000):
            train[start : start + 10_000] = block
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "v.h5")],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read, used, child = done.stdout.split()
    assert int(read) == rows
    assert float(used) < 100
    assert float(child) < 150
