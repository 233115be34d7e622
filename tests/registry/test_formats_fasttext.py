"""fastText: real models against gensim and against the .vec files that fastText wrote, and damaged ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embreg.registry.errors import InputError, StorageError, UsageError
from embreg.registry.formats import Options, base, fasttext, open_source, subwords, write_table
from embreg.registry.tables import EmbeddingTable

MAGIC = 793712314
PACK = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    ".xz": lzma.compress,
}
LEFT_OUT = "subword buckets are left out: words outside the vocabulary have no vector"


def rows_of(path, **more):
    source = open_source(path, **more)
    batches = list(source.batches())
    assert all(b.vectors.flags.c_contiguous and b.vectors.flags.writeable for b in batches)
    x = np.concatenate([b.vectors for b in batches])
    assert (source.rows, source.dim, x.dtype.name) == (*x.shape, source.dtype)
    return source, [name for b in batches for name in b.ids.to_pylist()], x


def refusal(path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        rows_of(path, **more)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def model(
    words=(b"ab", b"</s>"), labels=(), table=None, *, version=12, kind=2, bucket=4, minn=3, maxn=3, dim=2,
    pruned=-1, quantised=False, sizes=None, shape=None, loss=2, tail=True,
) -> bytes:  # fmt: skip
    """A model as fastText's ``saveModel`` writes it; ``version`` 0 is the layout without magic."""
    if table is None:
        rows = len(words) + (bucket if maxn else 0)
        table = np.arange(rows * dim, dtype=np.float32).reshape(rows, dim) ** 2
    args = struct.pack("<12id", dim, 5, 5, 1, 5, 1, loss, kind, bucket, minn, maxn, 100, 1e-4)
    head = struct.pack("<2i", MAGIC, version) + args if version else args
    counts = sizes or (len(words) + len(labels), len(words), len(labels))
    head += struct.pack("<3iq", *counts, 99) + (struct.pack("<q", pruned) if version else b"")
    for entries, mark in ((words, 0), (labels, 1)):
        head += b"".join(entry + b"\0" + struct.pack("<qb", 9, mark) for entry in entries)
    flag = struct.pack("<?", quantised) if version else b""
    body = flag + struct.pack("<2q", *(shape or table.shape)) + table.astype("<f4").tobytes()
    output = flag + struct.pack("<2q", 1, dim) + bytes(4 * dim)
    return head + body + (output if tail else b"")


def written(tmp_path, data: bytes, name: str = "v.bin") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


# -- n-grams -------------------------------------------------------------------------------------------------


def fnv(data: bytes) -> int:
    h = 2166136261
    for byte in data:
        signed = byte - 256 if byte > 127 else byte
        h = ((h ^ (signed & 0xFFFFFFFF)) * 16777619) & 0xFFFFFFFF
    return h


def slow_ngrams(word: bytes, minn: int, maxn: int) -> list[int]:
    """``Dictionary::computeSubwords``, step by step."""
    text, found = b"<" + word + b">", []
    for i in range(len(text)):
        if text[i] & 0xC0 == 0x80:
            continue
        j, n, gram = i, 1, b""
        while j < len(text) and n <= maxn:
            gram += text[j : j + 1]
            j += 1
            while j < len(text) and text[j] & 0xC0 == 0x80:
                gram += text[j : j + 1]
                j += 1
            if n >= minn and not (n == 1 and (i == 0 or j == len(text))):
                found.append(fnv(gram))
            n += 1
    return found


words_of_any_bytes = st.lists(
    st.binary(max_size=8) | st.text(max_size=8).map(str.encode), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=300)
@given(words_of_any_bytes, st.integers(0, 4), st.integers(0, 7))
@example([b""], 1, 2)
@example([b"\x80\x80", b"a"], 1, 3)
@example(["日本語".encode(), b"\xff"], 2, 3)
def test_ngrams_are_those_of_fasttext(words, minn, maxn):
    owners, hashes = subwords.ngrams(words, minn, maxn)
    assert owners.tolist() == sorted(owners.tolist())
    for i, word in enumerate(words):
        assert sorted(hashes[owners == i].tolist()) == sorted(slow_ngrams(word, minn, maxn))


def test_a_hash_known_elsewhere():
    """The reference values of FNV-1a, 32 bits: of 'a' and of 'foobar'."""
    assert fnv(b"a") == 0xE40C292C
    assert fnv(b"foobar") == 0xBF9CF968


# -- what a vector is ----------------------------------------------------------------------------------------


def test_a_word_is_the_mean_of_its_row_and_its_ngrams(tmp_path):
    data = model()
    _, ids, x = rows_of(written(tmp_path, data))
    table = np.arange(12, dtype=np.float64).reshape(6, 2) ** 2
    first, second = (2 + fnv(gram) % 4 for gram in (b"<ab", b"ab>"))
    assert ids == ["ab", "</s>"]
    np.testing.assert_allclose(x[0], (table[0] + table[first] + table[second]) / 3, rtol=1e-7)
    # The end of a sentence has no n-grams, but before the format had versions it had.
    assert x[1].tolist() == table[1].tolist()
    _, _, old = rows_of(written(tmp_path, model(version=0)), format="fasttext")
    grams = [2 + fnv(g) % 4 for g in (b"<</", b"</s", b"/s>", b"s>>")]
    np.testing.assert_allclose(old[1], (table[1] + table[grams].sum(axis=0)) / 5, rtol=1e-7)
    assert old[0].tobytes() == x[0].tobytes()


@pytest.mark.parametrize("batch", [1, 40, 8 << 20])
def test_batches_of_any_size_give_the_same(batch, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    words = [f"w{i}ö{'x' * (i % 9)}".encode() for i in range(60)]
    table = rng.normal(size=(60 + 16, 3)).astype(np.float32)
    path = written(tmp_path, model(words, table=table, bucket=16, minn=2, maxn=4, dim=3))
    expected = [
        np.mean([table[i], *(table[60 + h % 16] for h in slow_ngrams(word, 2, 4))], axis=0, dtype=np.float64)
        for i, word in enumerate(words)
    ]
    monkeypatch.setattr(base, "BATCH_BYTES", batch)
    monkeypatch.setattr(fasttext, "_PIECE", max(30, batch >> 3))
    monkeypatch.setattr(fasttext, "_LETTERS", max(20, batch >> 3))
    _, ids, x = rows_of(path)
    assert ids == [word.decode() for word in words]
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "more",
    [{"maxn": 0}, {"pruned": 0}, {"version": 11, "kind": 3}, {"bucket": 0, "table": np.eye(2)}],
    ids=str,
)
def test_without_ngrams_a_word_is_its_row(more, tmp_path):
    source, _, x = rows_of(written(tmp_path, model(**more)))
    assert source.warnings == ()
    expected = more.get("table", np.arange(4).reshape(2, 2) ** 2)
    assert x.tolist() == expected[:2].tolist()


def test_labels_are_left_out_and_told(tmp_path):
    path = written(tmp_path, model(labels=(b"__label__x", b"__label__y"), kind=3))
    source, ids, _ = rows_of(path)
    assert ids == ["ab", "</s>"]
    assert source.warnings == (LEFT_OUT, "labels are left out: 2")


@pytest.mark.parametrize("name", ["v.bin", "v.ftz", "v.model", "v.BIN"])
def test_recognised_by_its_first_bytes(name, tmp_path):
    assert rows_of(written(tmp_path, model(), name))[0].format == "fasttext"


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst", ".xz"])
def test_through_a_compression(suffix, tmp_path):
    plain = rows_of(written(tmp_path, model()))
    packed = rows_of(written(tmp_path, PACK[suffix](model()), f"w.bin{suffix}"))
    assert packed[0].warnings == plain[0].warnings
    assert (packed[1], packed[2].tobytes()) == (plain[1], plain[2].tobytes())
    short = PACK[suffix](model(tail=False)[:-3])
    assert "truncated" in refusal(written(tmp_path, short, f"x.bin{suffix}")).message


def test_buckets_that_do_not_fit_on_the_disk(tmp_path):
    rows = (1 << 50) + 2
    data = gzip.compress(model(table=np.eye(2), maxn=0, shape=(rows, 2)))
    source = open_source(written(tmp_path, data, "v.bin.gz"))
    with pytest.raises(StorageError, match=r"words and buckets need 9007199254\d{6} bytes on disk") as caught:
        list(source.batches())
    assert "TMPDIR" in caught.value.hint


def test_the_words_may_be_in_another_encoding(tmp_path):
    path = written(tmp_path, model(words=("żółć".encode("iso8859-2"),)))
    assert "row 0: the id is not UTF-8 text" in refusal(path).message
    assert rows_of(path, options=Options(encoding="iso8859-2"))[1] == ["żółć"]


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"quantised": True}, "quantised fastText model"),
        ({"pruned": 3}, "quantised fastText model"),
        ({"version": 13}, "version 13 of fastText's format"),
        ({"version": 10}, "version 10 of fastText's format"),
        ({"kind": 4}, "not a fastText model"),
        ({"loss": 0}, "not a fastText model"),
        ({"maxn": 65}, "damaged"),
        ({"minn": -1}, "damaged"),
        ({"bucket": -1, "table": np.eye(2)}, "damaged"),
        ({"sizes": (2, 1, 0)}, "its sizes are damaged"),
        ({"sizes": (2, -1, 3)}, "its sizes are damaged"),
        ({"words": (), "sizes": (0, 0, 0)}, "holds no rows"),
        ({"sizes": (2, 1, 1)}, "words and labels are mixed up"),
        ({"sizes": (10**9, 10**9, 0)}, "truncated: the header promises 1000000000 rows"),
        ({"shape": (10**12, 2)}, "truncated"),
        ({"shape": (3, 2)}, "input matrix"),
        ({"shape": (6, 3)}, "input matrix"),
        ({"shape": (-6, 2)}, "input matrix"),
        ({"words": (b"a" * (1 << 17),), "tail": True}, "no end of a word"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_a_model(more, what, tmp_path):
    assert what in refusal(written(tmp_path, model(**more)), format="fasttext").message


def test_the_quantised_are_told_what_to_do(tmp_path):
    assert ".bin" in refusal(written(tmp_path, model(quantised=True), "v.ftz")).hint


def test_every_cut_before_the_end_of_the_vectors_is_found(tmp_path):
    data = model(tail=False)
    for length in range(1, len(data)):
        path = written(tmp_path, data[:length])
        assert refusal(path, format="fasttext").exit_code == 3, length
    rows_of(written(tmp_path, data))


def test_word2vec_binary_is_not_taken_for_it(tmp_path):
    write_table(EmbeddingTable.from_arrays(None, np.ones((99, 2), dtype=np.float32)), tmp_path / "v.bin")
    assert open_source(tmp_path / "v.bin").format == "word2vec-bin"
    assert "not a fastText model" in refusal(tmp_path / "v.bin", format="fasttext").message
    error = refusal(written(tmp_path, model(), "m.bin"), format="word2vec-bin")
    assert error.hint == "--format fasttext"


def test_it_is_read_only(tmp_path):
    table = EmbeddingTable.from_arrays(["a"], np.ones((1, 2), dtype=np.float32))
    with pytest.raises(UsageError, match="fasttext is read, not written") as caught:
        write_table(table, tmp_path / "v.ftz")
    assert "word2vec" in caught.value.hint


# -- real models ---------------------------------------------------------------------------------------------

REAL = {
    "crime-and-punishment": (291, 5, "utf-8"),
    "lee_fasttext": (1762, 10, "utf-8"),
    "lee_fasttext_new": (1763, 10, "utf-8"),
    "non_ascii_fasttext": (171, 2, "utf-8"),
    "pang_lee_polarity_fasttext": (1694, 100, "cp1252"),
    "toy-model": (22, 5, "utf-8"),
    "toy-model-pretrained": (24, 5, "utf-8"),
}
#: Of the time before the format had a magic number.
OLD = ("lee_fasttext", "non_ascii_fasttext")


def real(gensim_data: Path, name: str):
    rows, dim, encoding = REAL[name]
    options = Options(encoding=encoding)
    found = rows_of(gensim_data / f"{name}.bin", format="fasttext" if name in OLD else None, options=options)
    assert found[2].shape == (rows, dim)
    return found


@pytest.mark.parametrize(
    "name", ["crime-and-punishment", "lee_fasttext", "pang_lee_polarity_fasttext", "toy-model"]
)
def test_the_vectors_are_those_that_fasttext_wrote_as_text(name, gensim_data):
    """A .vec file holds five significant digits."""
    _, ids, x = real(gensim_data, name)
    source, text_ids, text = rows_of(gensim_data / f"{name}.vec", options=Options(encoding=REAL[name][2]))
    assert source.format == "word2vec"
    assert ids == text_ids
    np.testing.assert_allclose(x, text, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(REAL) - {"pang_lee_polarity_fasttext"}))
def test_gensim_reads_the_same(name, gensim_data):
    """But for the end of a sentence, which gensim gives n-grams, as fastText does not."""
    models = pytest.importorskip("gensim.models.fasttext")
    oracle = models.load_facebook_vectors(str(gensim_data / f"{name}.bin"))
    source, ids, x = real(gensim_data, name)
    assert ids == oracle.index_to_key
    assert source.warnings == (LEFT_OUT,)
    kept = [i for i, word in enumerate(ids) if word != "</s>"]
    np.testing.assert_allclose(x[kept], oracle.vectors[kept], rtol=0, atol=1e-6)


def test_a_supervised_model(gensim_data):
    source, ids, _ = real(gensim_data, "pang_lee_polarity_fasttext")
    assert source.warnings == ("labels are left out: 2",)
    assert not any(word.startswith("__label__") for word in ids)


def test_ids_are_arrow_strings(tmp_path):
    (batch,) = open_source(written(tmp_path, model())).batches()
    assert batch.ids.type == pa.large_string()
