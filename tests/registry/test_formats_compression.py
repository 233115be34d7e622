"""gzip, bzip2, zstd and xz around every format that is one stream: read to the very end, or refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embreg.registry.errors import InputError, UsageError
from embreg.registry.formats import FORMATS, Options, compression, lines, open_source, write_table
from embreg.registry.tables import EmbeddingTable

IDS = ["the", "ö\u0085", "7"]
X = np.array([[0.1, -0.0], [1e-45, 3.4028235e38], [1 / 3, -7]], dtype=np.float32)


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


def unzstd(data: bytes) -> bytes:
    return pa.input_stream(pa.py_buffer(data), compression="zstd").read()


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd, ".xz": lzma.compress}
UNPACK = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".zst": unzstd, ".xz": lzma.decompress}
COMMANDS = {".gz": "gunzip", ".bz2": "bunzip2", ".zst": "unzstd", ".xz": "unxz"}
STREAMED = sorted(kind.suffixes[0] for kind in FORMATS.values() if kind.packed and kind.writes)
HERE_AND_THERE = (".parquet", ".arrow", ".npz", ".safetensors")
every_codec = pytest.mark.parametrize("suffix", PACK)


def table() -> EmbeddingTable:
    return EmbeddingTable.from_arrays(IDS, X)


def rows_of(path: Path, **more):
    batches = list(open_source(path, **more).batches())
    return [i for b in batches for i in b.ids.to_pylist()], np.concatenate([b.vectors for b in batches])


def refusal(path: Path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **more)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)
    return caught.value


def text_of(rows: int) -> bytes:
    return "".join(f"w{i} {i} {i * i % 977}.5\n" for i in range(rows)).encode()


# -- there and back ------------------------------------------------------------------------------------------


def test_every_text_and_stream_may_be_packed():
    assert STREAMED == [".bin", ".csv", ".jsonl", ".npy", ".tsv", ".txt", ".vec"]


@every_codec
@pytest.mark.parametrize("kind", STREAMED)
def test_a_packed_export_holds_the_plain_one(kind, suffix, tmp_path):
    plain, path = tmp_path / f"plain{kind}", tmp_path / f"v{kind}{suffix}"
    write_table(table(), plain)
    write_table(table(), path)
    assert UNPACK[suffix](path.read_bytes()) == plain.read_bytes()
    ids, x = rows_of(path)
    assert (ids, x.tobytes()) == (IDS, X.tobytes())


@every_codec
def test_equal_tables_give_equal_files(suffix, tmp_path):
    for name in "ab":
        write_table(table(), tmp_path / f"{name}.txt{suffix.upper()}")
    assert (tmp_path / f"a.txt{suffix.upper()}").read_bytes() == (
        tmp_path / f"b.txt{suffix.upper()}"
    ).read_bytes()
    assert UNPACK[suffix]((tmp_path / f"a.txt{suffix.upper()}").read_bytes()).startswith(b"the 0.1 -0\n")


@every_codec
@pytest.mark.parametrize("name", ["v.txt", "v.data.txt", "v"])
def test_the_first_bytes_tell_whatever_the_name(name, suffix, tmp_path):
    path = tmp_path / name
    path.write_bytes(PACK[suffix](text_of(3)))
    assert rows_of(path, format="glove")[0] == ["w0", "w1", "w2"]


@every_codec
def test_several_members_are_one_file(suffix, tmp_path):
    data, path = text_of(3000), tmp_path / f"v.txt{suffix}"
    path.write_bytes(PACK[suffix](data[:10_000]) + PACK[suffix](b"") + PACK[suffix](data[10_000:]))
    assert rows_of(path)[0] == [f"w{i}" for i in range(3000)]


def test_padding_between_xz_members(tmp_path):
    path = tmp_path / "v.txt.xz"
    path.write_bytes(lzma.compress(b"a 1 2\n") + bytes(8) + lzma.compress(b"b 3 4\n") + bytes(4))
    assert rows_of(path)[0] == ["a", "b"]


def test_skippable_frames_of_zstd(tmp_path):
    skip = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    path = tmp_path / "v.txt.zst"
    path.write_bytes(skip + zstd(b"a 1 2\n") + skip + zstd(b"b 3 4\n"))
    assert rows_of(path)[0] == ["a", "b"]


@pytest.mark.parametrize(
    "command", [["gzip", "-9"], ["bzip2"], ["zstd", "-19"], ["zstd", "--long=27"], ["xz", "-6"], ["xz", "-9"]]
)
def test_what_the_usual_tools_pack(command, tmp_path):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    packed = subprocess.run([*command, "-c"], input=text_of(5000), capture_output=True, check=True).stdout
    (tmp_path / "v.txt").write_bytes(packed)
    ids, x = rows_of(tmp_path / "v.txt")
    assert ids[-1] == "w4999"
    assert x[-1].tolist() == [4999, 4999 * 4999 % 977 + 0.5]


@pytest.mark.parametrize("suffix", [".bz2", ".xz"])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_inflating_in_pieces_of_any_size(suffix, data):
    parts = data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
    packed = b"".join(PACK[suffix](part) for part in parts)
    size = data.draw(st.integers(1, 30))
    make = bz2.BZ2Decompressor if suffix == ".bz2" else lzma.LZMADecompressor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_PIECE", data.draw(st.integers(1, 30)))
        reader = compression._Members(io.BytesIO(packed), make)
        pieces = []
        while piece := reader.read(size):
            pieces.append(piece)
    assert b"".join(pieces) == b"".join(parts)
    assert max(map(len, pieces), default=0) <= size


@every_codec
def test_ids_beside_an_array_may_be_packed(suffix, tmp_path):
    np.save(tmp_path / "v.npy", X)
    names = tmp_path / f"ids.txt{suffix}"
    names.write_bytes(PACK[suffix]("\n".join(IDS).encode()))
    assert rows_of(tmp_path / "v.npy", options=Options(ids=names))[0] == IDS


# -- damage --------------------------------------------------------------------------------------------------


@every_codec
def test_no_part_of_a_packed_file_passes_for_the_whole(suffix, tmp_path):
    path = tmp_path / f"v.txt{suffix}"
    whole = PACK[suffix](text_of(400))
    for length in [*range(1, 40), *range(40, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:length])
        error = refusal(path, format="glove")
        assert length < 16 or "truncated or damaged" in error.message, length


@every_codec
def test_a_flipped_bit_is_found(suffix, tmp_path):
    path = tmp_path / f"v.txt{suffix}"
    whole = PACK[suffix](text_of(400))
    # zstd as Arrow writes it has no checksum: a flip inside literal text would be text.
    for at in range(20, len(whole), 97 if suffix != ".zst" else len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert "truncated or damaged" in refusal(path).message, at


@every_codec
@pytest.mark.parametrize("junk", [b"junk", b"\x00\x00junk", b"BZh9", b"\xfd7zXZ\x00\x00"])
def test_bytes_after_the_last_member_are_damage(junk, suffix, tmp_path):
    path = tmp_path / f"v.txt{suffix}"
    path.write_bytes(PACK[suffix](text_of(400)) + junk)
    assert "truncated or damaged" in refusal(path).message


@pytest.mark.parametrize("suffix", [".bz2", ".xz"])
def test_a_damaged_second_member_is_not_the_end(suffix, tmp_path):
    """As the standard library's readers have it."""
    path = tmp_path / f"v.txt{suffix}"
    second = bytearray(PACK[suffix](b"b 3 4\n"))
    second[0] ^= 0xFF
    path.write_bytes(PACK[suffix](b"a 1 2\n") + bytes(second))
    assert UNPACK[suffix](path.read_bytes()) == b"a 1 2\n"
    assert "truncated or damaged" in refusal(path).message


@every_codec
def test_a_line_without_end_is_not_inflated_whole(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "CHUNK", 1 << 16)
    monkeypatch.setattr(lines, "MAX_LINE", 1 << 20)
    path = tmp_path / f"v.txt{suffix}"
    path.write_bytes(PACK[suffix](b"1 " * (4 << 20)))
    assert path.stat().st_size < 20_000
    assert "line 1: longer than 1 MiB" in refusal(path).message


def test_an_xz_file_that_asks_for_much_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "XZ_MEMORY", 4 << 20)
    path = tmp_path / "v.txt.xz"
    path.write_bytes(lzma.compress(text_of(3), preset=1))
    assert rows_of(path)[0] == ["w0", "w1", "w2"]
    path.write_bytes(lzma.compress(text_of(3), preset=6))
    assert "limit" in refusal(path).message


def test_a_zstd_file_that_asks_for_much_memory(tmp_path):
    path = tmp_path / "v.txt.zst"
    path.write_bytes(bytes.fromhex("28b52ffd00") + bytes([(31 - 10) << 3]) + bytes(20))
    assert "too much memory" in refusal(path).message


# -- what is no stream ---------------------------------------------------------------------------------------


@every_codec
@pytest.mark.parametrize("kind", HERE_AND_THERE)
def test_the_command_that_unpacks_is_named(kind, suffix, tmp_path):
    write_table(table(), tmp_path / f"v{kind}")
    packed = tmp_path / f"v{kind}{suffix}"
    packed.write_bytes(PACK[suffix]((tmp_path / f"v{kind}").read_bytes()))
    name = open_source(tmp_path / f"v{kind}").format
    for more in ({}, {"format": name}):
        error = refusal(packed, **more)
        assert f"{name} inside " in error.message
        assert error.hint == f"unpack it first: {COMMANDS[suffix]} v{kind}{suffix}"


@every_codec
def test_what_is_no_stream_is_not_written_packed(suffix, tmp_path):
    with pytest.raises(UsageError, match="not written through") as caught:
        write_table(table(), tmp_path / f"v.parquet{suffix}", format="parquet")
    assert caught.value.hint == f"leave {suffix} out"
    with pytest.raises(UsageError, match="tells no format"):
        write_table(table(), tmp_path / f"v.parquet{suffix}")
    assert list(tmp_path.iterdir()) == []


@every_codec
def test_arrays_inside_a_compression(suffix, tmp_path):
    def packed(data: bytes) -> Path:
        path = tmp_path / f"v.npy{suffix}"
        path.write_bytes(PACK[suffix](data))
        return path

    def saved(array: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    source = open_source(packed(saved(X.astype(">f8"))))
    assert (source.rows, source.dim, source.warnings[0]) == (3, 2, "float64 values were rounded to float32")
    assert np.concatenate([b.vectors for b in source.batches()]).tobytes() == X.tobytes()
    assert "promises 3 rows, the file holds 2" in refusal(packed(saved(X)[:-1])).message
    assert "goes on after them" in refusal(packed(saved(X) + b"x")).message
    error = refusal(packed(saved(np.asfortranarray(X))))
    assert "Fortran order inside" in error.message
    assert COMMANDS[suffix] in error.hint


@pytest.mark.parametrize("length", [0x8B1F, 0x088B1F])
def test_a_safetensors_file_may_begin_as_gzip_does(length, tmp_path):
    tensors = {"v": {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}}
    header = json.dumps(tensors).encode().ljust(length)
    path = tmp_path / "v.safetensors"
    path.write_bytes(struct.pack("<Q", length) + header + X.tobytes())
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    (batch,) = open_source(path).batches()
    assert batch.vectors.tobytes() == X.tobytes()


@every_codec
def test_pickles_inside_a_compression_are_refused(suffix, tmp_path):
    path = tmp_path / f"v.bin{suffix}"
    path.write_bytes(PACK[suffix](b"\x80\x04}q\x00."))
    assert "a pickle" in refusal(path).message


def test_a_full_disk_whatever_the_compression():
    code = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from embreg.registry.tables import EmbeddingTable\n"
        "from embreg.registry.formats import write_table\n"
        "from embreg.registry.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "x = np.random.default_rng(0).normal(size=(20000, 20)).astype('float32')\n"
        "table = EmbeddingTable.from_arrays(None, x)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "for name in sys.argv[2:]:\n"
        "    try:\n"
        "        write_table(table, sys.argv[1] + '/v.npy' + name)\n"
        "        sys.exit(3)\n"
        "    except StorageError as exc:\n"
        "        assert 'File too large' in str(exc), exc\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, folder, *PACK],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert list(Path(folder).iterdir()) == []
