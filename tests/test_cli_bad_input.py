"""What is refused: one line with file, place and remedy, the right exit code, and nothing left behind."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from embreg.cli import main

ROWS, DIM = 12, 4
VECTORS = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
IDS = [f"id{i}" for i in range(ROWS)]


class Shell:
    """Runs commands in this process, in one folder; ``refused`` looks at what a refusal must be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refusals = 0

    def run(self, *words: str, code: int = 0, **env: str) -> tuple[str, str]:
        """Return stdout and stderr of a command, after a look at its exit code; bugs are raised."""
        clean = {"EMBREG_REGISTRY": None, "GITHUB_STEP_SUMMARY": None, "EMBREG_DEBUG": "1"}
        with contextlib.chdir(self.folder):
            done = CliRunner(env=clean | env).invoke(main, words)
        if not isinstance(done.exception, SystemExit | None):
            raise done.exception
        assert done.exit_code == code, f"{words}: {done.exit_code}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def one_line(self, *words: str, code: int = 3) -> str:
        """Return the one line on stderr of a command that fails and prints nothing else."""
        out, err = self.run(*words, code=code)
        assert out == ""
        assert err.startswith("embreg: ")
        assert err.endswith("\n")
        assert err[:-1].isprintable(), "one line, and nothing that a terminal would obey"
        return err[:-1]

    def refused(self, *words: str, code: int = 3) -> str:
        """Return the line; nothing may be left behind, no lock either: the next registration works."""
        before = self.run("list", "--json")[0], self.run("index", "list", "--json")[0]
        line = self.one_line(*words, code=code)
        assert line.endswith(")"), f"no remedy in: {line}"
        assert (self.run("list", "--json")[0], self.run("index", "list", "--json")[0]) == before
        assert self.staged() == []
        self.refusals += 1
        assert json.loads(
            self.run("register", "good", "good.npy", "--model", f"m{self.refusals}", "--json")[0]
        )["created"]
        return line

    def staged(self) -> list[str]:
        return [path.name for path in (self.folder / ".embreg" / "staging").iterdir()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A registry with good@1 and the files to make it; the tests of this module leave nothing bad in it."""
    shell = Shell(tmp_path_factory.mktemp("bad"))
    np.save(shell.folder / "good.npy", VECTORS)
    (shell.folder / "good.ids").write_text("".join(f"{i}\n" for i in IDS))
    shell.run("init")
    shell.run("register", "good", "good.npy")
    shell.run("index", "build", "flat", "good@1", "--factory", "Flat", "--track", "latest")
    yield shell
    whole(shell.folder / ".embreg")


def whole(root: Path) -> None:
    """Every blob is the bytes of its name: a failed registration leaves at most blobs to sweep."""
    for path in (root / "blobs").rglob("*"):
        if path.is_file():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


# -- files of vectors ---------------------------------------------------------------------------------


def npy(array: np.ndarray, **more: bool) -> Callable[[Path], None]:
    return lambda path: np.save(path, array, **more)


def npz(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.savez(path, v=array)


def lines(*, ids: list[str] = IDS, vectors: np.ndarray = VECTORS, head: str = "") -> str:
    rows = (f"{i} {' '.join(map(str, v.tolist()))}" for i, v in zip(ids, vectors, strict=True))
    return head + "".join(f"{row}\n" for row in rows)


def at(row: int, column: int, value: float) -> np.ndarray:
    changed = VECTORS.copy()
    changed[row, column] = value
    return changed


def text(content: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content.encode(encoding))


def packed(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(gzip.compress(content.encode()))


def cut(make: Callable[[Path], None], size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes()[:size])

    return write


def table(**columns: object) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


def w2v_bin(count: int) -> Callable[[Path], None]:
    body = b"".join(i.encode() + b" " + v.tobytes() + b"\n" for i, v in zip(IDS, VECTORS, strict=True))
    return lambda path: path.write_bytes(f"{count} {DIM}\n".encode() + body)


def lying_npy(path: Path) -> None:
    head = {"descr": "<f4", "fortran_order": False, "shape": (10**9, DIM)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, head)
        file.write(VECTORS.tobytes())


def not_there(path: Path) -> None:
    path.unlink(missing_ok=True)


def ragged(path: Path) -> None:
    text(lines().rsplit(" ", 1)[0] + "\n")(path)


OBJECTS = np.array([{"a": 1}, None], dtype=object)
# name of the file, how it is made, what the line says besides the name of the file, in this order
FILES = {
    "missing": ("x.npy", not_there, "no such file"),
    "missing-text": ("x.txt", not_there, "no such file"),
    "directory": ("x.d", lambda path: path.mkdir(), "a directory"),
    "empty-npy": ("x.npy", text(""), "empty"),
    "empty-text": ("x.txt", text(""), "empty"),
    "empty-parquet": ("x.parquet", text(""), "empty"),
    "blank-text": ("x.txt", text("\n\n"), "holds no rows"),
    "truncated-npy": ("x.npy", cut(npy(VECTORS), 128 + 3 * DIM * 4), "row 3: truncated.*12 rows"),
    "truncated-npy-header": ("x.npy", cut(npy(VECTORS), 40), "header.*truncated"),
    "truncated-bin": ("x.bin", cut(w2v_bin(ROWS), 90), "truncated.*12 rows"),
    "truncated-parquet": ("x.parquet", cut(table(id=IDS, v=list(VECTORS)), 300), "truncated or damaged"),
    "truncated-npz": ("x.npz", cut(npz(VECTORS), 200), "truncated or damaged"),
    "truncated-gzip": ("x.txt.gz", cut(packed(lines()), 200), "truncated"),
    "object-npy": ("x.npy", npy(OBJECTS, allow_pickle=True), "Python objects.*unpickled: never"),
    "object-npz": ("x.npz", npz(OBJECTS), "array 'v': Python objects.*unpickled: never"),
    "pickle": ("x.bin", text("\x80\x04junk", "latin-1"), "a pickle.*never loaded"),
    "ragged-text": ("x.txt", ragged, "line 12: expected an id and 4 numbers, found 3"),
    "ragged-parquet": (
        "x.parquet",
        table(id=["a", "b"], v=[[1.0, 2.0], [1.0]]),
        "row 1, column 'v'.*found 1",
    ),
    "word-among-numbers": ("x.txt", text(lines()[:-1] + "x\n"), "line 12, column 5: '.*x' is not a number"),
    "nan-text": (
        "x.txt",
        text(lines(vectors=at(7, 2, np.nan))),
        "row 7, dimension 2: NaN.*id7.*--on-nonfinite",
    ),
    "inf-npy": ("x.npy", npy(at(5, 1, np.inf)), "row 5, dimension 1: .*ids: 5.*--on-nonfinite"),
    "null-vector": (
        "x.parquet",
        table(id=["a", "b"], v=[[1.0], None]),
        "row 1, column 'v': the vector is null",
    ),
    "null-id": ("x.parquet", table(id=["a", None], v=[[1.0], [2.0]]), "row 1, column 'id': the id is null"),
    "duplicate-ids": (
        "x.txt",
        text(lines(ids=[*IDS[:-1], "id3"])),
        "1 duplicate ids: 'id3' in rows 3 and 11",
    ),
    "not-utf-8": ("x.txt", text(lines(ids=["café", *IDS[1:]]), "latin-1"), "line 1: not UTF-8.*--encoding"),
    "dimension-0": ("x.npy", npy(np.empty((3, 0), np.float32)), "dimension 0"),
    "no-rows": ("x.npy", npy(np.empty((0, 3), np.float32)), "no rows"),
    "one-axis": ("x.npy", npy(np.ones(3, np.float32)), "1 dimensions, not 2"),
    "integers": ("x.npy", npy(np.ones((3, 2), np.int64)), "integers.*astype"),
    "lying-npy": ("x.npy", lying_npy, "row 12: .*promises 1000000000 rows, the file holds 12"),
    "lying-word2vec-more": ("x.vec", text(lines(head="13 4\n")), "promises 13 rows, the file holds 12"),
    "lying-word2vec-fewer": ("x.vec", text(lines(head="11 4\n")), "row 11: .*promises 11 rows"),
    "lying-word2vec-width": ("x.vec", text(lines(head="12 5\n")), "line 2: expected.* 5 numbers, found 4"),
    "lying-bin-more": ("x.bin", w2v_bin(99), "promises 99 rows"),
    "lying-bin-fewer": ("x.bin", w2v_bin(11), "row 11: .*promises 11 rows"),
    "no-vectors": ("x.parquet", table(id=IDS, n=list(range(ROWS))), "no column of floats"),
    "another-format": ("x.npy", table(id=IDS, v=list(VECTORS)), "begins as parquet.*--format parquet"),
    "no-format": ("x.xyz", text("a,1\n"), "--format"),
}


@pytest.fixture
def clear(place: Shell) -> Iterator[Path]:
    """A folder for the bad files of one test."""
    folder = place.folder / "sources"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file(place: Shell, clear: Path, case: str) -> None:
    name, make, told = FILES[case]
    make(clear / name)
    line = place.refused("register", "bad", f"sources/{name}")
    assert re.match(rf"embreg: sources/{re.escape(name)}: .*{told}", line), line


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "x.ids",
            "".join(f"{i}\n" for i in IDS[:-1]),
            r"11 ids, but the vectors have more rows in good\.npy",
        ),
        ("x.ids", "".join(f"{i}\n" for i in [*IDS, "more"]), r"13 ids for 12 rows in good\.npy"),
        ("x.ids", "a\n\nb\n", "line 2: an empty line"),
        ("x.ids", "", "empty"),
        ("x.json", '["a", 3]', "line 1, item 1: expected a string"),
        ("x.json", '["a"', "line 1"),
        ("x.ids", None, "no such file"),
        ("x.ids", "".join(f"{i}\n" for i in [*IDS[1:], "id3"]), None),
    ],
)
def test_bad_ids(place: Shell, clear: Path, name: str, content: str | None, told: str | None) -> None:
    if content is not None:
        (clear / name).write_text(content)
    line = place.refused("register", "bad", "good.npy", "--ids", f"sources/{name}")
    if told is None:
        assert line.startswith("embreg: good.npy: 1 duplicate ids: 'id3' in rows 2 and 11")
    else:
        assert re.match(rf"embreg: sources/{name}: {told}", line), line


def test_rows_that_are_not_finite_may_be_dropped_and_are_told(place: Shell, clear: Path) -> None:
    np.save(clear / "x.npy", at(5, 1, np.inf))
    told = json.loads(place.run("register", "less", "sources/x.npy", "--on-nonfinite", "drop", "--json")[0])
    assert told["rows"] == ROWS - 1
    assert re.search("1 rows with NaN or infinity were left out: 5", told["warnings"][0])


# -- words of the command -----------------------------------------------------------------------------

WORDS = [
    (3, "show god", "no embedding 'god'.*did you mean 'good'"),
    (3, "show good@99999", "no version 'good@99999'.*latest is"),
    (3, "show good@sha256:00000000", "no version"),
    (3, "show good@prod", "no alias 'prod'"),
    (3, "neighbors good@1 111", "no id '111'.*did you mean '11'"),
    (3, "neighbors good@1 1 -k 12", "k = 12, but only 11 other rows"),
    (3, "analogy good@1 1 2 3 -k 10", "k = 10, but only 9 other rows"),
    (3, "index search flat 1 -k 12", "k = 12, but only 11 other rows"),
    (3, "index search flat nope", "no id 'nope'"),
    (3, "index search flta 1", "no index 'flta'.*did you mean 'flat'"),
    (3, "index build i good@1 --factory IVF99,Flat", "needs at least 99 rows; the table has 12"),
    (2, "index build i good@1 --factory Flt", "cannot make 'Flt'.*for example Flat"),
    (2, "index build i good@1 --factory PQ3", "cannot make 'PQ3' for cosine vectors of width 4"),
    (2, "index build i good@1 --factory Flat --search nprobe=2", "cannot set 'nprobe=2'"),
    (3, "index build i good@1 --factory Flat --track prod", "no alias 'prod'.*embreg alias set good prod"),
    (3, "index build i god --factory Flat", "no embedding 'god'"),
    (2, "eval good@1 --suite hubnes", "unknown suite 'hubnes'.*did you mean 'hubness'"),
    (2, "eval good@1 -p hubness.q=1", "unknown parameter of hubness 'q'.*one of"),
    (3, "eval good@1 --dataset nope", "no dataset 'nope'.*dataset add"),
    (3, "eval good@1 --baseline god", "no embedding 'god'.*did you mean"),
    (2, "metrics good --metric skewnes", "unknown metric 'skewnes'.*did you mean 'skewness'"),
    (2, "metrics good --metric hubnes.skewness", "unknown suite 'hubnes'.*did you mean 'hubness'"),
    (2, "register bad good.npy --kind wrd", "unknown kind 'wrd'.*did you mean 'word'"),
    (2, "register bad good.npy --metric cos", "unknown metric 'cos'.*did you mean 'cosine'"),
    (2, "register bad good.npy --format np", "unknown format 'np'.*did you mean"),
    (2, "register bad good.npy --alias latest", "'latest' cannot be an alias"),
    (2, "register bad good.npy --on-nonfinite keep", "keep.*fail or drop"),
    (2, "register bad good.npy --tensor x", "no use for --tensor"),
    (2, "register ../bad good.npy", r"'\.\./bad' cannot be a name"),
    (3, "register bad good.npy --tokenizer nope", "nope: No such file.*--tokenizer"),
    (2, "alias set good 7 good", "'7' cannot be an alias"),
    (2, "alias rm good latest", "'latest' cannot be an alias"),
    (3, "dataset add d nope.txt --kind pairs", r"nope\.txt: no such file"),
    (2, "dataset add d good.ids --kind pair", "unknown kind of dataset 'pair'.*did you mean 'pairs'"),
    (2, "export good@1 x.foo", "suffix tells no format.*--format"),
    (3, "export good@1 good.npy", r"good\.npy: exists already.*--overwrite"),
    (2, "frobnicate", "No such command 'frobnicate'"),
    (2, "register bad", "Missing argument 'SOURCE'.*embreg register --help"),
]


@pytest.mark.parametrize(("code", "command", "told"), WORDS, ids=[w[1] for w in WORDS])
def test_a_bad_word(place: Shell, code: int, command: str, told: str) -> None:
    line = place.refused(*command.split(), code=code)
    assert re.search(told, line), line


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[[gates]\n", r"line 1: column 8: "),
        ('[registry]\nurl = "x\n', r"line 2: column 9: "),
        ("[registry]\nurl = 3\n", r"line 2: url is a path"),
        ("\n[gate]\n", r"line 2: unknown table 'gate'.*did you mean 'gates'"),
        ("[suites.hubnes]\nk = 3\n", r"line 1: unknown suite 'hubnes'.*did you mean 'hubness'"),
        ("\n[suites.hubness]\nq = 3\n", r"line 2: unknown parameter of hubness 'q'.*one of"),
        ('\n[suites.hubness]\nk = "x"\n', r"line 2: hubness\.k = x: expected int"),
        ('[[gates]]\nmetric = "hubness.skewnes"\nmax = 3\n', r"line 1: unknown metric of hubness 'skewnes'"),
        ('[[gates]]\nmetric = "hubness.skewness"\n', r"line 1: hubness\.skewness has no bound"),
        ('[[gates]]\nmetric = "hubness.skewness"\nmax = nan\n', r"line 3: max is a finite number"),
        ("x = \xff", r"line 1: not UTF-8"),
    ],
)
def test_a_malformed_configuration_is_told_by_its_line(place: Shell, toml: str, told: str) -> None:
    config = place.folder / "bad.toml"
    valid = '\n[[gates]]\nmetric = "hubness.skewness"\nmax = 3\n'
    config.write_bytes((toml + valid).encode("latin-1"))
    for command in (("gate", "good@1"), ("eval", "good@1", "--suite", "hubness")):
        line = place.one_line(*command, "--config", "bad.toml", "--registry", ".embreg", code=2)
        assert re.match(rf"embreg: bad\.toml: {told}", line), line


# -- the disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, place: Shell) -> Iterator[Shell]:
    """A file system of one MiB, with a registry and good.npy on it."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        shell = Shell(folder)
        shutil.copy(place.folder / "good.npy", folder)
        shell.run("init")
        shell.run("register", "good", "good.npy", "--model", "first")
        yield shell
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(small_disk: Shell, tmp_path: Path) -> None:
    np.save(tmp_path / "big.npy", np.ones((20000, 32), np.float32))
    free = os.statvfs(small_disk.folder).f_bavail
    line = small_disk.refused("register", "bad", str(tmp_path / "big.npy"))
    assert re.search(r"cannot write to .*staging: No space left on device \(.*free some space", line)
    assert os.statvfs(small_disk.folder).f_bavail > free - 16, "the partial write is gone"
    with (small_disk.folder / "fill").open("wb", buffering=0) as fill, contextlib.suppress(OSError):
        while True:
            fill.write(bytes(4096))
    for command in ("register good good.npy --model x", "alias set good p good", "init other"):
        assert "space" in small_disk.one_line(*command.split())
    (small_disk.folder / "fill").unlink()
    assert small_disk.staged() == []
    assert small_disk.run("show", "good@1")[0]
    assert small_disk.run("alias", "set", "good", "p", "good")[0]
    assert small_disk.run("init", "other")[0]


def test_a_read_only_disk(small_disk: Shell) -> None:
    def mode(word: str) -> None:
        again = ["mount", "-o", f"remount,{word}", str(small_disk.folder)]
        subprocess.run(again, check=True, capture_output=True)

    mode("ro")
    commands = (
        "register bad good.npy",
        "alias set good p good",
        "index build i good --factory Flat",
        "init other",
        "dataset add d good.ids --kind pairs",
        "export good x.txt",
    )
    for command in commands:
        line = small_disk.one_line(*command.split())
        assert str(small_disk.folder) in line or "x.txt" in line or "good.ids" in line
        assert line.endswith(")"), "a remedy"
    assert small_disk.run("show", "good@1")[0], "readers keep reading"
    assert small_disk.run("verify")[0]
    mode("rw")
    assert small_disk.refused("show", "bad").startswith("embreg: no embedding 'bad'")


# -- interrupting -------------------------------------------------------------------------------------


def test_ctrl_c_sweeps_what_was_staged(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.run("init")
    np.save(tmp_path / "good.npy", VECTORS)
    rows, dim = 1_280_000, 128  # 640 MiB, five parts: one is written while the next is read
    with (tmp_path / "big.npy").open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(file, head)
        file.truncate(file.tell() + rows * dim * 4)
    command = [sys.executable, "-c", "from embreg.cli import main; main()", "register", "bad", "big.npy"]
    done = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        # A job that a script started in the background ignores the signal, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not shell.staged():
        assert done.poll() is None, "it ended before anything was seen in staging"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    done.send_signal(signal.SIGINT)
    out, err = done.communicate(timeout=60)
    assert (done.returncode, out) == (3, "")
    assert err.strip() == "embreg: interrupted (nothing is half-done: 'embreg log' shows what was finished)"
    assert shell.refused("show", "bad").startswith("embreg: no embedding 'bad'")
    whole(tmp_path / ".embreg")


# -- the database -------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Shell:
    """A registry that a test may damage."""
    shell = Shell(tmp_path)
    np.save(tmp_path / "good.npy", VECTORS)
    shell.run("init")
    shell.run("register", "good", "good.npy")
    return shell


def sql(shell: Shell, statement: str) -> None:
    with closing(sqlite3.connect(shell.folder / ".embreg" / "embreg.db")) as connection:
        connection.execute(statement)
        connection.commit()


READING = ("list", "show good", "register bad good.npy", "alias set good p good")


def test_a_newer_database(own: Shell) -> None:
    sql(own, "UPDATE alembic_version SET version_num = '9999'")
    for command in (*READING, "db upgrade", "init"):
        line = own.one_line(*command.split())
        assert re.search(r"has schema 9999, newer than \w+ \(upgrade embreg: 'pip install", line)
    assert json.loads(own.run("db", "current", "--json")[0])["revision"] == "9999"
    assert own.staged() == []


def test_an_older_database(own: Shell) -> None:
    sql(own, "UPDATE alembic_version SET version_num = '0000'")
    for command in READING:
        line = own.one_line(*command.split())
        assert re.search(r"has schema 0000, older than \w+ \(run 'embreg db upgrade'", line)
    # No embreg ever wrote 0000: the way up is missing, and that is said; what was there is still there.
    assert re.search(r"schema 0000, which embreg cannot upgrade \(restore", own.one_line("db", "upgrade"))
    for left in own.folder.glob(".embreg/embreg.db*"):
        left.unlink()
    with closing(sqlite3.connect(own.folder / ".embreg" / "embreg.db")) as older:
        older.executescript((Path(__file__).parent / "registry" / "schemas" / "0001.sql").read_text())
    assert "older than" in own.one_line("list")
    assert own.run("db", "upgrade")[0]
    assert json.loads(own.run("list", "--json")[0])["embeddings"][0]["latest"] == 2


def test_an_empty_database_is_upgraded_and_works(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    np.save(tmp_path / "good.npy", VECTORS)
    (tmp_path / ".embreg").mkdir()
    (tmp_path / ".embreg" / "embreg.db").touch()
    assert "embreg db upgrade" in shell.one_line("list")
    shell.run("db", "upgrade")
    shell.run("register", "good", "good.npy")
    assert shell.run("show", "good@1")[0]


def test_a_strangers_database_is_not_written_to(tmp_path: Path) -> None:
    shell, file = Shell(tmp_path), tmp_path / ".embreg" / "embreg.db"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    before = file.read_bytes()
    for command in ("list", "db upgrade", "init", "register bad good.npy"):
        line = shell.one_line(*command.split())
        assert re.search(r"embreg\.db has tables but no schema revision: .* \(choose", line)
    assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database" * 4000, b""])
def test_a_file_that_is_no_database(own: Shell, content: bytes) -> None:
    file = own.folder / ".embreg" / "embreg.db"
    file.write_bytes(content or file.read_bytes()[:9000])  # noise, or half of what was there
    for command in READING:
        assert re.search(r"embreg\.db is damaged: .* \(restore it", own.one_line(*command.split()))


# -- what a terminal would obey -----------------------------------------------------------------------

# An escape sequence, a newline, a carriage return, marks of direction, C1 controls, markup.
NASTY = [
    "\x1b[31mred",
    "two\nlines",
    "back\rspace",
    "\u202etxt.exe",
    "\x9b2J",
    "[bold]x[/bold]",
    "\x00nul",
    "\u2028",
]


def safe(told: str) -> bool:
    return all(line.isprintable() for line in told.split("\n"))


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A registry whose ids, messages, models and tags try to talk to the terminal."""
    shell = Shell(tmp_path_factory.mktemp("nasty"))
    ids = [*NASTY, *IDS[: ROWS - len(NASTY)]]
    pq.write_table(pa.table({"id": ids, "v": list(VECTORS)}), shell.folder / "x.parquet")
    (shell.folder / "\x1b[2Jevil.tsv").write_text("".join(f"{i}\t{i}\t1\n" for i in IDS))
    words = ("-m", "".join(NASTY[:-2]), "--model", NASTY[0], "--tag", f"{NASTY[3]}={NASTY[1]}")
    shell.run("init")
    shell.run("register", "words", "x.parquet", *words)
    shell.run("index", "build", "flat", "words", "--factory", "Flat")
    shell.run("dataset", "add", "pairs", "\x1b[2Jevil.tsv", "--kind", "pairs")
    return shell


SHOWING = [
    ("list",), ("show", "words"), ("log",), ("index", "list"), ("dataset", "list"), ("metrics", "words"),
    ("neighbors", "words", "id0", "-k", "11"), ("index", "search", "flat", "id0", "-k", "11"),
    ("eval", "words", "--suite", "hubness", "--force"), ("diff", "words", "words"),
    ("export", "words", f"{NASTY[3]}.npy", "--overwrite"),
]  # fmt: skip


@pytest.mark.parametrize("words", SHOWING, ids=[" ".join(w[:2]) for w in SHOWING])
def test_nothing_raw_reaches_a_terminal(nasty: Shell, words: tuple[str, ...]) -> None:
    for more in ((), ("--json",)):
        out, err = nasty.run(*words, *more)
        assert safe(out), ascii(out)
        assert safe(err), ascii(err)
    json.loads(out)


def test_ids_are_escaped_for_people_and_whole_for_scripts(nasty: Shell) -> None:
    words = ("neighbors", "words", "id0", "-k", "11")
    assert set(NASTY) <= {n["id"] for n in json.loads(nasty.run(*words, "--json")[0])["neighbors"]}
    for told in (r"\x1b[31mred", r"two\nlines", r"\u202etxt.exe", "[bold]x[/bold]"):
        assert f" {told} " in nasty.run(*words)[0]


@pytest.mark.parametrize("bad", [text for text in NASTY if "\0" not in text])
def test_nothing_raw_comes_back_from_an_argument(nasty: Shell, bad: str) -> None:
    commands = [
        ("show", bad), ("register", bad, "x.parquet"), ("register", "w", bad),
        ("neighbors", "words", f"{bad}?"), ("alias", "set", "words", bad, "words"),
        ("index", "build", "i", "words", "--factory", bad),
        ("eval", "words", "--suite", bad), ("eval", "words", "-p", bad), ("list", "--registry", bad),
        ("register", "w", "x.parquet", "--kind", bad), ("gate", "words", "--config", bad), (bad,),
        ("list", bad, bad), ("dataset", "add", "d", bad, "--kind", "pairs"), ("list", f"--{bad}"),
    ]  # fmt: skip
    for words in commands:
        for json_too in ((), ("--json",)):
            clean = {"EMBREG_REGISTRY": None}
            with contextlib.chdir(nasty.folder):
                done = CliRunner(env=clean).invoke(main, [*words, *json_too])
            assert done.exit_code in (2, 3), words
            assert "internal error" not in done.stderr, done.stderr
            assert safe(done.stderr), words
            assert done.stderr.count("\n") == 1
            assert safe(done.stdout), words


def test_arguments_that_are_no_text(cli, place: Shell) -> None:
    """Bytes that are not UTF-8 are a fine name of a file, and of nothing else."""
    cli("init")
    raw = os.fsdecode(b"caf\xe9.npy")
    shutil.copy(place.folder / "good.npy", cli.folder / raw)
    assert cli.json("register", "words", raw)["source"] == r"caf\udce9.npy"
    assert (
        cli.fails("register", "words", raw, "--model", raw, code=2)
        == r"embreg: 'caf\udce9.npy' is not UTF-8 text"
    )
