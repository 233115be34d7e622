"""What every format shares: how a file is recognised, refused, written and read back."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import embreg.registry.formats as package
from embreg.registry.errors import InputError, StorageError, UnknownChoice, UsageError
from embreg.registry.formats import FORMATS, Options, base, open_source, source_of_table, write_table
from embreg.registry.tables import EmbeddingTable, Part
from embreg.registry.types import Space

X = np.array([[0.1, -0.0, 1e-45], [3.4028235e38, 1 / 3, -7]], dtype=np.float32)
NAMES = sorted(name for name, kind in FORMATS.items() if kind.writes and kind.suffixes)
TEXT = ("glove", "word2vec", "word2vec-bin", "jsonl", "csv", "tsv")
COLUMNS = ("parquet", "arrow", "jsonl", "csv", "tsv")
FLOAT32 = (*TEXT, "faiss")


def table_of(ids, x, **attributes) -> EmbeddingTable:
    return EmbeddingTable.from_arrays(ids, x, attributes=attributes)


def in_parts(table: EmbeddingTable, rows: int) -> EmbeddingTable:
    """The same table, cut into parts as a large one is."""
    whole = next(iter(table._parts)).table()
    cuts = [whole.slice(i, rows).combine_chunks() for i in range(0, table.rows, rows)]
    parts = [Part(len(cut), lambda _, cut=cut: cut, mapped=True) for cut in cuts]
    return EmbeddingTable(parts, table.space, table.column_names[3:])


def contents(path, **more):
    source = open_source(path, **more)
    batches = list(source.batches())
    ids = [name for b in batches for name in b.ids.to_pylist()]
    extra = [b.attributes for b in batches]
    attributes = None if extra[0] is None else pa.Table.from_batches(extra).to_pydict()
    return ids, np.concatenate([b.vectors for b in batches]), attributes


def path_of(folder: Path, name: str) -> Path:
    return folder / f"v{FORMATS[name].suffixes[0]}"


# -- round trips ---------------------------------------------------------------------------------------------

FORBIDDEN = {"glove": "\n", "word2vec": " \n", "word2vec-bin": " \n"}
floats = st.floats(width=32, allow_nan=False)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 4))


def words(name: str, count: int):
    letters = st.characters(exclude_characters=FORBIDDEN.get(name, ""), exclude_categories=["Cs"])
    common = st.sampled_from(["a b", "\r", "7", '"', "\u0085", "", "a\r", "\t", "nan", "x 7"])
    allowed = common.filter(lambda w: not set(w) & set(FORBIDDEN.get(name, "")))
    return st.lists(st.text(letters, max_size=5) | allowed, min_size=count, max_size=count)


# HDF5 is read in processes of their own, which take their time: it has fewer examples in a test of its own.
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"hdf5"}))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_export_reads_back_the_same(name, data, tmp_path):
    dtype = data.draw(st.sampled_from(["float32", "float16"])) if name not in FLOAT32 else "float32"
    element = floats if dtype == "float32" else st.floats(width=16, allow_nan=False)
    x = data.draw(hnp.arrays(dtype, shapes, elements=element))
    ids = data.draw(words(name, len(x)))
    table = in_parts(table_of(ids, x), data.draw(st.integers(1, 6)))
    path = path_of(tmp_path, name)
    try:
        write_table(table, path, overwrite=True)
    except InputError as refused:
        reasons = {"glove": ("number after a space", "U+FEFF"), "npz": ("NUL",),
                   "jsonl": ("NaN or infinity",)}  # fmt: skip
        assert any(reason in refused.message for reason in reasons.get(name, ()))
        return
    found, y, attributes = contents(path, format=name)
    assert found == ids
    assert (y.dtype, y.tobytes(), attributes) == (x.dtype, x.tobytes(), None)


@pytest.mark.parametrize("name", NAMES)
def test_an_export_is_recognised_by_its_suffix(name, tmp_path):
    table = table_of(["b", "a"], X)
    for suffix in FORMATS[name].suffixes:
        write_table(table, tmp_path / f"v{suffix}")
        assert open_source(tmp_path / f"v{suffix}").format == name
        ids, x, _ = contents(tmp_path / f"v{suffix}")
        assert ids == ["b", "a"]
        assert x.tobytes() == X.tobytes()


@pytest.mark.parametrize("name", COLUMNS)
def test_attributes_survive_where_there_are_columns(name, tmp_path):
    table = in_parts(table_of(["b", "a"], X, freq=[3, None], tag=["x", "y"]), 1)
    assert write_table(table, path_of(tmp_path, name)) == ()
    assert contents(path_of(tmp_path, name))[2] == {"freq": [3, None], "tag": ["x", "y"]}


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(COLUMNS)))
def test_attributes_that_are_left_out_are_told(name, tmp_path):
    notes = write_table(table_of(["b", "a"], X, freq=[3, 4]), path_of(tmp_path, name))
    assert [note for note in notes if "attributes" in note] == [notes[0]]
    assert notes[0].endswith(": freq")


@pytest.mark.parametrize("name", FLOAT32)
def test_float16_becomes_float32_in_text_without_loss(name, tmp_path):
    x = X.clip(-9, 9).astype(np.float16)
    write_table(table_of(["b", "a"], x), path_of(tmp_path, name))
    assert np.array_equal(contents(path_of(tmp_path, name), format=name)[1], x.astype(np.float32))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"jsonl"}))
def test_nan_and_infinity_pass_through(name, tmp_path):
    x = np.array([[np.nan, np.inf], [-np.inf, 1]], dtype=np.float32)
    write_table(table_of(["b", "a"], x), path_of(tmp_path, name))
    np.testing.assert_array_equal(contents(path_of(tmp_path, name))[1], x)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_table_gives_the_same_file(name, tmp_path):
    table = table_of(["b", "a"], X)
    first, second = (tmp_path / f"{i}{FORMATS[name].suffixes[0]}" for i in "12")
    write_table(table, first)
    write_table(table, second)
    assert first.read_bytes() == second.read_bytes()


def test_gzip_by_suffix(tmp_path):
    for suffix in (".txt.gz", ".vec.gz", ".bin.GZ"):
        path = tmp_path / f"v{suffix}"
        write_table(table_of(["b", "a"], X), path)
        assert path.read_bytes()[:2] == b"\x1f\x8b"
        assert contents(path)[1].tobytes() == X.tobytes()


def test_text_is_what_one_would_write_by_hand(tmp_path):
    x = np.array([[0.1, -0.0], [1e-5, 16777216]], dtype=np.float32)
    write_table(table_of(["New York", '"'], x), tmp_path / "v.txt")
    lines = (tmp_path / "v.txt").read_text().split("\n")
    cut = [line.rsplit(" ", 2) for line in lines[:-1]]
    assert [c[0] for c in cut] == ["New York", '"']
    assert [[np.float32(v).tobytes() for v in c[1:]] for c in cut] == [
        [v.tobytes() for v in row] for row in x
    ]
    assert cut[0][1] == "0.1"


def test_a_table_is_a_source_itself():
    table = in_parts(table_of(["b", "a"], X, freq=[3, 4]), 1)
    source = source_of_table(table)
    batches = list(source.batches())
    assert (source.dim, source.dtype, source.rows, len(batches)) == (3, "float32", 2, 2)
    assert [b.ids.to_pylist() for b in batches] == [["b"], ["a"]]
    assert [b.attributes.to_pydict() for b in batches] == [{"freq": [3]}, {"freq": [4]}]
    assert np.concatenate([b.vectors for b in batches]).tobytes() == X.tobytes()


# -- recognising ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if FORMATS[n].magic])
def test_first_bytes_tell_where_the_suffix_does_not(name, tmp_path):
    write_table(table_of(["b", "a"], X), path_of(tmp_path, name))
    path_of(tmp_path, name).rename(tmp_path / "v.data")
    assert open_source(tmp_path / "v.data").format == name


@pytest.mark.parametrize("name", NAMES)
def test_format_insists(name, tmp_path):
    write_table(table_of(["b", "a"], X), tmp_path / "v.data", format=name)
    assert open_source(tmp_path / "v.data", format=name).format == name


@pytest.mark.parametrize("name", ["glove", "word2vec", "word2vec-bin"])
def test_an_unknown_suffix_lists_the_formats(name, tmp_path):
    write_table(table_of(["b", "a"], X), tmp_path / "v.data", format=name)
    with pytest.raises(InputError) as caught:
        open_source(tmp_path / "v.data")
    assert "--format" in caught.value.hint
    assert all(known in caught.value.hint for known in NAMES)


def test_a_suffix_that_lies_names_the_format(tmp_path):
    write_table(table_of(["b", "a"], X), tmp_path / "v.txt", format="parquet")
    with pytest.raises(InputError, match="begins as parquet") as caught:
        open_source(tmp_path / "v.txt")
    assert caught.value.hint == "--format parquet"


def test_what_is_read_here_and_there_inside_gzip(tmp_path):
    write_table(table_of(["b", "a"], X), tmp_path / "v.parquet")
    for name in ("v.parquet.gz", "v.txt"):
        (tmp_path / name).write_bytes(gzip.compress((tmp_path / "v.parquet").read_bytes()))
        for insist in (None, "parquet"):
            with pytest.raises(InputError, match="parquet inside gzip") as caught:
                open_source(tmp_path / name, format=insist)
            assert caught.value.hint == f"unpack it first: gunzip {name}"


def test_an_unknown_format(tmp_path):
    for call in (lambda: open_source("x", format="glov"),
                 lambda: write_table(table_of(["a", "b"], X), tmp_path / "x", format="glov")):  # fmt: skip
        with pytest.raises(UnknownChoice, match="glove"):
            call()


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *NAMES])
def test_what_is_no_file(name, tmp_path):
    suffix = FORMATS[name].suffixes[0] if name else ".txt"
    empty, folder, pipe = (tmp_path / f"{i}{suffix}" for i in ("empty", "folder", "pipe"))
    empty.touch()
    folder.mkdir()
    os.mkfifo(pipe)
    for path, what in (
        (tmp_path / "none.npy", "no such file"),
        (empty, "empty"),
        (folder, "a directory"),
        (pipe, "not a regular file"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(InputError, match=what) as caught:
            open_source(path, format=name)
        assert caught.value.exit_code == 3


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1\n")
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        open_source(path)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("name", ["v.kv", "v.bin", "v.txt", "v.npy", "v.txt.gz"])
def test_pickles_are_refused_by_their_first_bytes(protocol, name, tmp_path):
    data = bytes([0x80, protocol]) + b"}q\x00."
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(InputError, match="a pickle") as caught:
        open_source(tmp_path / name)
    assert "save_word2vec_format" in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_refused(name, tmp_path):
    path = path_of(tmp_path, name)
    path.write_bytes(np.random.default_rng(5).bytes(4000))
    with pytest.raises(InputError):
        contents(path)


@pytest.mark.parametrize("name", NAMES)
def test_an_option_without_use_is_refused(name, tmp_path):
    write_table(table_of(["b", "a"], X), path_of(tmp_path, name))
    given_ = {
        "ids": tmp_path / "i",
        "id_column": "i",
        "vector_column": "v",
        "tensor": "t",
        "encoding": "latin-1",
    }
    for option in given_.keys() - FORMATS[name].takes:
        with pytest.raises(UsageError, match=option.replace("_", "-")):
            open_source(path_of(tmp_path, name), options=Options(**{option: given_[option]}))


def test_a_source_is_read_once(tmp_path):
    write_table(table_of(["b", "a"], X), tmp_path / "v.npy")
    source = open_source(tmp_path / "v.npy")
    list(source.batches())
    with pytest.raises(UsageError, match="read once"):
        source.batches()


def test_a_name_cannot_forge_a_message(tmp_path):
    with pytest.raises(InputError) as caught:
        open_source(tmp_path / "a\x1b[31m\nerror: b.npy")
    assert str(caught.value).isprintable()


# -- writing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_overwritten_unasked(name, tmp_path):
    path = path_of(tmp_path, name)
    path.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_table(table_of(["b", "a"], X), path)
    assert path.read_text() == "mine"
    write_table(table_of(["b", "a"], X), path, overwrite=True)
    assert contents(path)[0] == ["b", "a"]


def test_ids_of_another_array_are_not_overwritten(tmp_path):
    (tmp_path / "v.npy.ids.json").write_text("[]")
    with pytest.raises(InputError, match=r"ids\.json: exists already"):
        write_table(table_of(["b", "a"], X), tmp_path / "v.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["v.npy.ids.json"]


@pytest.mark.parametrize(
    ("name", "word"),
    [("glove", "a\nb"), ("glove", "a 7"), ("glove", "\ufeffa"), ("word2vec", "a b"), ("word2vec", "a\nb"),
     ("word2vec-bin", "a b"), ("word2vec-bin", "\na"), ("npz", "a\0"), ("hdf5", "a\0b")],
)  # fmt: skip
def test_ids_that_a_format_cannot_hold_leave_nothing_behind(name, word, tmp_path):
    with pytest.raises(InputError, match="cannot hold") as caught:
        write_table(table_of(["b", word], X), path_of(tmp_path, name))
    assert "parquet" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_table_without_rows_is_not_exported(name, tmp_path):
    with pytest.raises(InputError, match="without rows"):
        write_table(EmbeddingTable([], Space(dim=3)), path_of(tmp_path, name))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(StorageError, match="No such file or directory"):
        write_table(table_of(["b", "a"], X), tmp_path / "no" / "v.npy")
    with pytest.raises(UsageError, match="suffix tells no format"):
        write_table(table_of(["b", "a"], X), tmp_path / "v.data")
    with pytest.raises(InputError, match="exists already"):
        write_table(table_of(["b", "a"], X), tmp_path, format="npy", overwrite=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk(name):
    """/dev/full refuses every byte: the error is ours, whichever library was writing."""
    if not Path("/dev/full").exists() or not stat.S_ISCHR(Path("/dev/full").stat().st_mode):
        pytest.skip("no /dev/full here")
    code = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from embreg.registry.tables import EmbeddingTable\n"
        "from embreg.registry.formats import write_table\n"
        "from embreg.registry.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "x = np.random.default_rng(0).normal(size=(20000, 30)).astype('float32')\n"
        "table = EmbeddingTable.from_arrays(None, x)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    write_table(table, sys.argv[1], format=sys.argv[2])\n"
        "except StorageError as exc:\n"
        "    sys.exit(7)\n"
    )
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, f"{folder}/v", name],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 7, done.stderr
        assert list(Path(folder).iterdir()) == []


# -- the package ---------------------------------------------------------------------------------------------


def test_every_format_keeps_the_contract():
    shared = {"__init__", "base", "lines", "parsing", "arrays", "columns", "ids", "writing",
              "checkpoints", "documents", "tokenizers", "compression", "subwords", "records",
              "vectortext", "attributes", "headers", "json_rows", "roles", "json_strings", "scaled",
              "child", "hdf5_child", "faiss_child", "ahead"}  # fmt: skip
    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - shared
    assert modules == {f.module.partition(":")[0] for f in FORMATS.values()}
    for name, kind in FORMATS.items():
        module = package._module(kind)
        assert (kind.name, bool(module.__doc__)) == (name, True)
        assert callable(module.read)
        assert callable(getattr(module, "write", None)) == kind.writes
    suffixes = [s for f in FORMATS.values() for s in f.suffixes]
    assert len(set(suffixes)) == len(suffixes)


MEMORY = """
import resource, sys, os
from embreg.registry.formats import open_source
import pyarrow, pyarrow.parquet, pyarrow.csv, numpy
def peak():
    return int([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]) / 1024
before = peak()
rows = sum(len(b.vectors) for b in open_source(sys.argv[1]).batches())
print(rows, peak() - before)
"""


def sparse_npy(path: Path, rows: int, dim: int, fortran: bool) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': {fortran}, 'shape': ({rows}, {dim}), }}".ljust(117) + "\n"
    with path.open("wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
        out.truncate(out.tell() + rows * dim * 4)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["npy", "npy fortran", "npz", "arrow", "glove", "parquet", "word2vec-bin"])
def test_memory_does_not_grow_with_the_source(kind, tmp_path):
    """250 MB of vectors pass through less than 175 MB."""
    rows, dim = 250_000, 250
    name = kind.split()[0]
    path = path_of(tmp_path, name)
    if name == "npy":
        sparse_npy(path, rows, dim, kind.endswith("fortran"))
    elif name == "npz":
        import zipfile

        sparse_npy(tmp_path / "v.npy", rows, dim, False)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.write(tmp_path / "v.npy", "v.npy")
        assert path.stat().st_size < 4 << 20
    elif name == "glove":
        with gzip.open(tmp_path / "v.txt.gz", "wb", compresslevel=1) as out:
            line = b"word" + b" 0.5" * dim + b"\n"
            for _ in range(60):
                out.write(line * 1000)
        path, rows = tmp_path / "v.txt.gz", 60_000
    elif name == "word2vec-bin":
        with gzip.open(tmp_path / "v.bin.gz", "wb", compresslevel=1) as out:
            out.write(f"{rows} {dim}\n".encode())
            row = b"word " + bytes(4 * dim)
            for _ in range(250):
                out.write(row * 1000)
        path = tmp_path / "v.bin.gz"
    else:
        # One record batch, one row group: nothing to stream by but the reader itself.
        x = np.zeros((rows, dim), dtype=np.float32)
        if name == "arrow":
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), dim)
            table = pa.table({"vector": vectors})
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table)
        else:
            import pyarrow.parquet as pq

            x[:] = np.random.default_rng(0).normal(size=dim)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), dim)
            pq.write_table(pa.table({"vector": vectors}), path, row_group_size=rows, use_dictionary=False,
                           compression="NONE")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    read, used = done.stdout.split()
    assert int(read) == rows
    assert float(used) < 175, f"{used} MB"


@pytest.mark.parametrize("name", NAMES)
def test_batches_have_a_bounded_size(name, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", 4096)
    x = np.random.default_rng(0).normal(size=(700, 8)).astype(np.float32)
    write_table(table_of([str(i) for i in range(700)], x), path_of(tmp_path, name))
    sizes = [b.vectors.nbytes for b in open_source(path_of(tmp_path, name)).batches()]
    assert sum(sizes) == x.nbytes
    assert max(sizes) <= (4096 if name not in TEXT else 8 << 20)
