"""``embreg ui``: it listens, lets in whom it may, answers, and ends. Asked over the wire, as by a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import pytest

from embreg import EmbeddingTable, connect
from embreg.evals import queries
from embreg.evals.ui.asked import MOST_K, MOST_TEXT, Asked

from .conftest import Cli

MAIN = "from embreg.cli import main; main()"
ODD = "a&b=c+d%20\"'<script>window.pwned=1</script>#?\n{{7*7}}\u202e"


def words(rows: int = 300, seed: int = 0) -> EmbeddingTable:
    """Rows ``w0`` …, ``W0`` in other letters, and one whose id is all that an address could stumble over."""
    ids = [ODD, "W0", *(f"w{i}" for i in range(rows - 2))]
    return EmbeddingTable.from_arrays(ids, np.random.default_rng(seed).standard_normal((rows, 8)))


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run ``embreg ui`` on a free port; yield the process, and what it said of its address.

    Whatever is asked of it, it has nothing to say on stderr.
    """
    command = [sys.executable, "-c", MAIN, "ui", "--port", "0", "--json", *options]
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline() or "{}")
        finally:
            process.kill()
            errors.seek(0)
            told = errors.read()
        assert told == ""


def interrupted(process: subprocess.Popen[str]) -> None:
    """End it with Ctrl-C, and see that it ends well."""
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0] == ""
    assert process.returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry of two versions below a working directory."""
    path = tmp_path_factory.mktemp("ui")
    with connect(path / ".embreg", create=True) as registry:
        registry.register("words", words(), alias="production")
        registry.register("words", words(seed=1))
    return path


@pytest.fixture(scope="module")
def ui(folder: Path) -> Iterator[httpx.Client]:
    """Somebody who asks on the same machine."""
    with serving(folder) as (_, address), httpx.Client(base_url=address["url"], timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(folder: Path) -> Iterator[tuple[str, str]]:
    """The address and the token of one that listens to all the world."""
    with serving(folder, "--host", "0.0.0.0") as (_, address):
        yield f"http://127.0.0.1:{address['port']}", address["token"]


def raw(ui: httpx.Client, target: str) -> bytes:
    """What is answered to an address as it is: a client would tidy it, or refuse it."""
    with socket.create_connection((ui.base_url.host, ui.base_url.port or 80), timeout=30) as wire:
        wire.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        said = b""
        with suppress(ConnectionResetError):  # who sends too much may be cut off
            while piece := wire.recv(65536):
                said += piece
        return said


def text(page: str) -> str:
    """What a page says."""
    said = page.partition("<main")[2].partition(">")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", said)).split())


# -- listening -----------------------------------------------------------------------------------------------


def test_it_says_where_it_listens_and_ends_with_ctrl_c(folder: Path) -> None:
    with serving(folder) as (process, address):
        assert address["url"] == f"http://127.0.0.1:{address['port']}/"
        assert address["token"] is None
        with httpx.Client() as kept_alive:
            assert kept_alive.get(address["url"]).status_code == 200
            interrupted(process)


def test_a_person_reads_the_address(folder: Path) -> None:
    command = [sys.executable, "-c", MAIN, "ui", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_browser_is_opened_where_it_is_asked_for(folder: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {seen}.new\nmv {seen}.new {seen}\n', encoding="utf-8")
    browser.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BROWSER", f"{browser} %s")
        with serving(folder, "--open") as (process, address):
            for _ in range(100):
                if seen.exists():
                    break
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.1)
    assert seen.read_text(encoding="utf-8").strip() == address["url"]


def test_a_port_in_use_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = Cli(folder).fails("ui", "--port", str(port), code=2)
    assert line == f"embreg: 127.0.0.1:{port} is taken (--port 0 takes a free port)"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "\x1b[31m"])
def test_a_host_that_is_not_ours_is_one_line(folder: Path, host: str) -> None:
    line = Cli(folder).fails("ui", "--host", host, "--port", "0", code=2)
    assert line.startswith("embreg: cannot listen on ")
    assert "\x1b" not in line


def test_without_a_registry_nothing_listens(tmp_path: Path) -> None:
    assert "no registry at" in Cli(tmp_path).fails("ui", "--port", "0")


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_what_is_not_installed_is_named_with_the_command(folder: Path, missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; {MAIN}"
    done = subprocess.run(
        [sys.executable, "-c", code, "ui"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    told = f"embreg: 'embreg ui' needs {missing}, which is not installed (pip install 'embreg[ui]')\n"
    assert (done.stdout, done.stderr) == ("", told)


# -- who may ask, and how ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_nothing_can_be_changed(ui: httpx.Client, method: str) -> None:
    for path in ("/", "/-/neighbors", "/nowhere"):
        answer = ui.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET, HEAD"


def test_head_is_get_without_a_body(ui: httpx.Client) -> None:
    head, got = ui.head("/-/neighbors"), ui.get("/-/neighbors")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000",
                                  "10.0.0.1", "", "[::2]", "localhost@evil.example"])  # fmt: skip
def test_a_name_that_is_not_this_machine_is_refused(ui: httpx.Client, host: str) -> None:
    assert ui.get("/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8000", "LOCALHOST:9"])
def test_the_names_of_this_machine_are_served(ui: httpx.Client, host: str) -> None:
    assert ui.get("/-/neighbors", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/-/neighbors", "/-/ids?ref=words", "/-/suggest.js", "/nowhere",
                                  "/-/neighbors?k=0", "/-/ids?ref=no"])  # fmt: skip
def test_every_answer_tells_the_browser_to_be_careful(ui: httpx.Client, path: str) -> None:
    headers = ui.get(path).headers
    for directive in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert directive in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"]
    assert "server" not in headers
    assert not [name for name in headers if name.startswith("access-control")]


def test_what_never_changes_is_sent_once(ui: httpx.Client) -> None:
    home = ui.get("/")
    assert home.headers["Cache-Control"] == "no-store"
    (style,) = re.findall(r'href="(assets/style-[^"]*)"', home.text)
    assert "immutable" in ui.get(style).headers["Cache-Control"]
    assert ui.get("/assets/search-index.js").headers["Cache-Control"] == "no-store"


def test_without_the_token_nobody_gets_in(guarded: tuple[str, str]) -> None:
    url, token = guarded
    for path in ("/", "/-/neighbors", "/-/ids?ref=words", "/nowhere", "/?token=", "/?token=x", "/?token=ä",
                 f"/?token={token[:-1]}", f"/?token={token}x", f"/?Token={token}"):  # fmt: skip
        answer = httpx.get(f"{url}{path}")
        assert answer.status_code == 403, path
        assert "words" not in text(answer.text)
        assert token not in answer.text
    assert httpx.get(url, cookies={f"embreg-{url.rpartition(':')[2]}": "x"}).status_code == 403
    assert httpx.post(f"{url}/?token={token}").status_code == 405


def test_the_token_is_given_once_and_kept_as_a_strict_cookie(guarded: tuple[str, str]) -> None:
    url, token = guarded
    assert len(token) >= 32
    with httpx.Client(base_url=url) as client:
        first = client.get(f"/-/neighbors?ref=words&token={token}&k=5")
        kept = first.headers["Set-Cookie"]
        assert "HttpOnly" in kept
        assert "samesite=strict" in kept.lower()
        assert first.headers["Refresh"] == "0; url=/-/neighbors?ref=words&k=5"
        assert client.get("/-/neighbors?ref=words").status_code == 200
    odd = httpx.get(f"{url}//evil.example/%0d%0aX:1?token={token}")
    assert odd.headers["Refresh"] == "0; url=/evil.example/%0d%0aX:1"


def test_a_token_can_be_chosen_on_this_machine_too(folder: Path) -> None:
    with serving(folder, "--token", "open-sesame") as (_, address):
        assert address["token"] == "open-sesame"
        assert address["url"].endswith("/?token=open-sesame")
        assert httpx.get(address["url"]).status_code == 200
        assert httpx.get(address["url"].partition("?")[0]).status_code == 403


@pytest.mark.parametrize("token", ["", "short", "with space", "a;b=c&d e f", "пароль-пароль"])
def test_a_token_that_cannot_stand_in_an_address_is_refused(folder: Path, token: str) -> None:
    line = Cli(folder).fails("ui", "--port", "0", "--token", token, code=2)
    assert line.startswith("embreg: --token: letters, digits")
    assert not token or token not in line


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/embreg.db",
                                  "/embreg.db", "//etc/passwd", "/assets/../../embreg.db", "/%00",
                                  "/-/../embreg.db", "/.embreg/embreg.db"])  # fmt: skip
def test_no_path_leads_to_a_file(ui: httpx.Client, path: str) -> None:
    said = raw(ui, path)
    assert said.startswith(b"HTTP/1.1 404 ")
    assert b"SQLite" not in said
    assert b"root:" not in said


# -- what is asked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["", "cosine", "dot", "l2"])
def test_neighbours_are_those_of_the_command(folder: Path, ui: httpx.Client, metric: str) -> None:
    with connect(folder / ".embreg") as registry:
        expected = queries.neighbors(registry.table("words@1"), "w5", 7, metric=metric or None)
    page = ui.get("/-/neighbors", params={"ref": "words@1", "id": "w5", "k": 7, "metric": metric})
    assert page.status_code == 200
    rows = re.findall(r'<td><a href="[^"]*">([^<]*)</a></td><td class="n">([^<]*)</td>', page.text)
    assert rows == [(html.escape(item), f"{score:.6f}") for item, score in expected]


def test_an_analogy_is_that_of_the_command(folder: Path, ui: httpx.Client) -> None:
    with connect(folder / ".embreg") as registry:
        expected = queries.analogy(registry.table("words@2"), "w1", "w2", "w3", 3)
    page = ui.get("/-/analogy", params={"ref": "words@2", "a": "w1", "b": "w2", "c": "w3", "k": 3})
    rows = re.findall(r'">([^<]*)</a></td><td class="n">([^<]*)</td>', page.text)
    assert rows == [(html.escape(item), f"{score:.6f}") for item, score in expected]


def test_an_analogy_is_one_of_directions_whatever_metric_is_asked_for(ui: httpx.Client) -> None:
    asked = {"ref": "words@2", "a": "w1", "b": "w2", "c": "w3", "metric": "l2"}
    page = ui.get("/-/analogy", params=asked)
    assert "cosine, exact" in page.text
    assert "l2, exact" not in page.text


def test_two_versions_stand_beside_each_other(folder: Path, ui: httpx.Client) -> None:
    with connect(folder / ".embreg") as registry:
        one, two = (
            {item for item, _ in queries.neighbors(registry.table(ref), "w5", 40)}
            for ref in ("words@1", "words@2")
        )
    page = ui.get("/-/neighbors", params={"ref": "words@1", "id": "w5", "k": 40, "beside": "words@2"})
    assert f"found by both: {len(one & two)} of 40" in text(page.text)
    assert page.text.count("<td>✓</td>") == 2 * len(one & two) > 0


def test_a_version_is_found_by_alias_and_chosen_in_the_form(ui: httpx.Client) -> None:
    page = ui.get("/-/neighbors", params={"ref": "words@production", "id": "w5"})
    assert '<option value="words@1" selected>words@1 (production)</option>' in page.text


def test_an_id_survives_form_and_links(ui: httpx.Client) -> None:
    page = ui.get("/-/neighbors", params={"ref": "words@1", "id": ODD})
    assert page.status_code == 200
    assert "<script>window" not in page.text
    value = re.search(r'<input id="ask-id" name="id" value="([^"]*)"', page.text)
    assert value
    assert html.unescape(value[1]) == ODD
    links = re.findall(r'<td><a href="([^"]*)">', ui.get("/-/neighbors?ref=words@1&id=w5&k=100").text)
    links += re.findall(r'<td><a href="([^"]*)">', ui.get("/-/neighbors?ref=words@1&id=w6&k=100").text)
    found = [link for link in links if "pwned" in link]
    assert found, "the odd id is near one of them"
    assert ui.get(html.unescape(found[0])).status_code == 200


def test_ids_are_suggested_by_how_they_begin(ui: httpx.Client) -> None:
    def asked(**query: str) -> list[str]:
        answer = ui.get("/-/ids", params=query)
        assert answer.headers["content-type"] == "application/json"
        return answer.json()["ids"]

    assert asked(ref="words@1", prefix="w1") == ["w1", *(f"w{i}" for i in range(10, 20)),
                                                  *(f"w{i}" for i in range(100, 109))]  # fmt: skip
    assert asked(ref="words@1", prefix="W") == ["W0"]
    assert asked(ref="words@1", prefix="zz") == []
    assert len(asked(ref="words@1", prefix="")) == 20
    assert ui.get("/-/ids", params={"ref": "no"}).status_code == 404


def test_an_id_that_is_not_there_leads_to_those_that_are(ui: httpx.Client) -> None:
    page = ui.get("/-/neighbors", params={"ref": "words@1", "id": "w29x"})
    assert page.status_code == 404
    assert "no id 'w29x'" in text(page.text)
    page = ui.get("/-/analogy", params={"ref": "words@1", "a": "w1", "b": "w", "c": "w3"})
    assert page.status_code == 404
    begun = re.findall(r'<a href="(/-/analogy[^"]*)">([^<]*)</a>', page.text.partition("that begin like")[2])
    assert [item for _, item in begun][:3] == ["w0", "w1", "w2"]
    assert "No id" not in ui.get(html.unescape(begun[0][0])).text


def test_what_is_missing_beside_does_not_hide_the_rest(ui: httpx.Client) -> None:
    page = ui.get("/-/neighbors", params={"ref": "words@1", "id": "w5", "beside": "gone"})
    assert page.status_code == 200
    assert "no embedding 'gone'" in text(page.text)
    assert page.text.count('<td><a href="') == 10


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ({"k": "0"}, 400, f"from 1 to {MOST_K}"),
        ({"k": str(MOST_K + 1)}, 400, f"from 1 to {MOST_K}"),
        ({"k": "-1"}, 400, "k is no such number"),
        ({"k": "1e3"}, 400, "k is no such number"),
        ({"k": "٣"}, 400, "k is no such number"),
        ({"k": "9" * 3000}, 400, "k is no such number"),
        ({"metric": "hamming"}, 400, "unknown metric 'hamming'"),
        ({"id": "x" * (MOST_TEXT + 1)}, 400, f"at most {MOST_TEXT:,}"),
        ({"id": "é" * MOST_TEXT}, 404, "no id 'éé"),
        ({"ref": "no@1"}, 404, "no embedding 'no'"),
        ({"ref": "words@99"}, 404, "words@99"),
        ({"ref": "../etc"}, 400, "cannot be a name"),
        ({"ref": "words@\x1b[31m\u202e"}, 400, "\\x1b"),
        ({"id": "\x00"}, 404, "no id '\\x00'"),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[:20],
)
def test_what_cannot_be_answered_is_a_page_that_says_so(
    ui: httpx.Client, query: dict[str, str], status: int, told: str
) -> None:
    page = ui.get("/-/neighbors", params={"ref": "words@1", "id": "w5"} | query)
    assert page.status_code == status
    assert told in text(page.text)
    assert "\x1b" not in page.text


def test_bytes_that_are_no_text_are_no_error(ui: httpx.Client) -> None:
    assert ui.get("/-/neighbors?ref=words@1&id=%ff%fe").status_code == 404
    assert ui.get("/%ff%fe").status_code == 404


def test_an_address_without_end_is_refused(ui: httpx.Client) -> None:
    refused = raw(ui, "/?" + "x" * 2_000_000)
    assert refused == b"" or refused.startswith(b"HTTP/1.1 400 ")
    longest = urlencode({"ref": "words@1", **dict.fromkeys("abc", "\U0001f600" * MOST_TEXT)})
    assert raw(ui, f"/-/analogy?{longest}").startswith(b"HTTP/1.1 404 ")


def test_a_question_survives_its_own_address() -> None:
    asked = Asked(ref="a@1", beside="b@2", texts={"id": ODD}, k=5, metric="l2")
    query = dict(httpx.QueryParams(asked.address()))
    assert Asked.of(query, ("id",)) == asked


# -- while others write --------------------------------------------------------------------------------------


@pytest.fixture
def living(folder: Path, tmp_path: Path) -> Path:
    """A copy that may change."""
    return Path(shutil.copytree(folder, tmp_path / "living"))


def test_many_ask_while_somebody_registers(living: Path) -> None:
    paths = ["/", "/-/neighbors?ref=words&id=w5&beside=words@1", "/-/ids?ref=words&prefix=w", "/log.html"]
    with serving(living) as (process, address), connect(living / ".embreg") as registry:
        with httpx.Client(base_url=address["url"], timeout=60) as client, ThreadPoolExecutor(20) as pool:
            answers = [pool.submit(client.get, paths[i % len(paths)]) for i in range(60)]
            for seed in range(5):
                registry.register("words", words(seed=10 + seed))
            statuses = [answer.result().status_code for answer in answers]
            assert statuses == [200] * 60
            assert "words@7" in client.get("/-/neighbors").text
        interrupted(process)


def test_tables_can_be_used_while_others_are_still_loaded() -> None:
    """Threads load modules at the same time: at no line of them may the tables be spoilt for all others."""
    code = """
from sqlalchemy import event
from sqlalchemy.orm import Mapper, configure_mappers
event.listen(Mapper, "after_mapper_constructed", lambda mapper, of: configure_mappers())
import embreg.registry.orm_runs, embreg.registry.orm_dependents
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_registered_after_the_start_is_there(living: Path) -> None:
    with serving(living) as (_, address), httpx.Client(base_url=address["url"]) as client:
        before = client.get("/").text
        assert client.get("/").text == before
        with connect(living / ".embreg") as registry:
            registry.register("birds", words(50), message="just now")
            registry.alias("words", "production", "words@2")
        home = client.get("/").text
        assert "birds" in home
        assert "birds" not in before
        assert "words@2 (production)" in client.get("/-/neighbors").text
        link = re.search(r'href="([^"]*birds[^"]*\.html)"', home)
        assert link
        assert "just now" in client.get(link[1]).text


def test_a_registry_that_goes_away_is_a_page(living: Path) -> None:
    with serving(living) as (process, address), httpx.Client(base_url=address["url"]) as client:
        shutil.rmtree(living / ".embreg")
        gone = client.get("/")
        assert gone.status_code == 404
        assert "no registry at" in text(gone.text)
        interrupted(process)


def test_damage_is_a_page(living: Path, flip: Callable[[Path], None]) -> None:
    with connect(living / ".embreg") as registry:
        digest = registry.resolve("words@1").digest
    flip(living / ".embreg" / "blobs" / "sha256" / digest[:2] / digest)
    with serving(living) as (_, address):
        page = httpx.get(f"{address['url']}-/neighbors?ref=words@1&id=w5")
    assert page.status_code == 500
    assert "damaged" in text(page.text)
    assert "Traceback" not in page.text


@pytest.fixture
def flip() -> Callable[[Path], None]:
    """Damage a file."""

    def damage(path: Path) -> None:
        path.chmod(0o644)
        path.write_bytes(b"x" + path.read_bytes()[1:])

    return damage
