"""The command line: parse -> one call -> render. No logic of its own.

Exit codes: 0 done, 1 a check said no, 2 usage or configuration, 3 the operation failed.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from gc import freeze, set_threshold
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .registry.errors import EmbregError, RegistryNotFound, StorageError, UsageError, printable

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from .evals.config import Config
    from .evals.gating import GateResult
    from .evals.reporting import Report
    from .registry.registry import Registry
    from .registry.types import Progress, RunRecord

MOST = 2**63 - 1
#: Set by a shell that asks for completions, or for the script that does.
COMPLETION = "_EMBREG_COMPLETE"
_PIECE = 1 << 16
#: Columns of a reader who has no terminal: nothing is folded. And the fewest that anything is laid out for.
UNFOLDED, NARROWEST = 100_000, 20
#: So many events are shown where nothing else is asked for.
LOGGED = 1000
AT_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")


class Verbatim(str):
    """Text for a program, printed as it is."""

    __slots__ = ()


class Context:
    """What the options shared by all commands say."""

    def __init__(self, argv: Sequence[str] = ()) -> None:
        self.argv = tuple(argv)
        self.registry_option: str | None = None
        self.config_option: str | None = None
        self.json = False

    def config(self) -> Config | None:
        """Return the configuration file in force, or None."""
        from .evals.config import config_in_force

        return config_in_force(self.config_option)

    def root(self) -> str:
        """Return where the registry is: --registry, $EMBREG_REGISTRY, embreg.toml, .embreg."""
        from .evals.config import registry_in_force

        return registry_in_force(self.registry_option, self.config_option)

    def open(self) -> Registry:
        """Open the registry."""
        from .registry.registry import Registry

        return Registry.open(self.root(), command=self.command_line)

    @property
    def command_line(self) -> str:
        """What was typed, for the log."""
        return " ".join(["embreg", *self.argv])

    def show(self, document: Mapping[str, Any], view: Callable[[], RenderableType]) -> None:
        """Print one JSON document, or what a person reads.

        Raises:
            StorageError: stdout takes no more. A reader who left a pipe is no error: the exit code stands.
        """
        try:
            self._print(document, view)
        except (BrokenPipeError, SystemExit):  # the second is rich's word for the first
            _silence_stdout()
        except OSError as exc:
            _silence_stdout()
            hint = "what the command did stands: 'embreg log' shows it"
            raise StorageError(f"cannot write to stdout: {exc.strerror}", hint=hint) from exc

    def _print(self, document: Mapping[str, Any], view: Callable[[], RenderableType]) -> None:
        if self.json:
            click.echo(_json(document))
            return
        from rich.console import Console
        from rich.text import Text

        shown = view()
        if isinstance(shown, Verbatim):
            click.echo(shown)
            return
        if isinstance(shown, str):
            shown = Text(printable(shown, 2000))

        console = Console(file=sys.stdout, width=_width(), height=25, highlight=False)
        console.print(shown, soft_wrap=False, crop=False)

    @contextmanager
    def progress(self, what: str) -> Iterator[Progress | None]:
        """Yield a progress callback where somebody watches; it draws on stderr."""
        if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
            yield None
            return
        from rich import progress
        from rich.console import Console

        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)
            inner = bar.add_task("", total=None, visible=False)
            steps = {inner: ""}

            def told(step: str, done: int, total: int | None) -> None:
                outer, _, part = step.partition(": ")
                if part and step != steps[inner]:
                    steps[inner] = step
                    bar.reset(inner, description=f"  {part}", visible=True)
                bar.update(inner, completed=done, total=total) if part else bar.update(inner, visible=False)
                if not part:
                    bar.update(task, description=f"{what}: {outer}", completed=done, total=total)

            yield told


class Known(click.ParamType[str]):
    """A word that a shell completes to what is known: by the registry at hand, or by embreg itself."""

    def __init__(self, what: str) -> None:
        self.name = self.what = what

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:  # noqa: ARG002
        """Return what begins with what is typed; whatever is wrong with the registry, a shell is not told."""
        from click.shell_completion import CompletionItem

        from .evals.completion import known

        at = ctx.find_object(Context) or Context()
        try:
            given = ctx.params | {"": ctx.args}
            return [CompletionItem(word) for word in known(self.what, at.open, given, incomplete)]
        except Exception:  # noqa: BLE001  a broken database too: an error in the middle of a line helps nobody
            return []


class RefType(Known):
    """A reference; completes to the names and aliases of the registry at hand."""

    def __init__(self) -> None:
        super().__init__("ref")


REF, NAME, ALIAS, TRACKED = RefType(), Known("name"), Known("alias"), Known("tracked")
INDEX, DATASET, SUITE, FORMAT = Known("index"), Known("dataset"), Known("suite"), Known("format")


class Since(click.ParamType[Any]):
    """A time, or the id of an event."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return an int where it is a number below every year written out, else a datetime."""
        if isinstance(value, str) and value.isdecimal() and len(value) < 19:
            return int(value)
        return click.DateTime(AT_FORMATS).convert(value, param, ctx)


class Main(click.Group):
    """A group whose every failure is one line on stderr, or one JSON document, and an exit code."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Any:
        """Run a command line and exit with its code."""
        argv = list(sys.argv[1:] if args is None else args)
        if os.environ.get(COMPLETION, "").endswith("_complete"):
            _complete_quietly()
        # A command keeps what it reads until it ends: looking for garbage is a fifth of a long listing, and
        # once more at the end, among the objects of all that was imported, a fifth of a short one.
        set_threshold(100_000, 50, 50)
        atexit.register(freeze)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal of few letters still gets every line
                stream.reconfigure(errors="backslashreplace")
        try:
            kwargs |= {"prog_name": "embreg", "standalone_mode": False, "obj": Context(argv)}
            with _warnings_in_a_line():
                code = super().main(argv, *rest, **kwargs)
        except click.exceptions.Exit as exc:
            code = exc.exit_code
        except click.exceptions.NoArgsIsHelpError as exc:
            click.echo(exc.message, err=True)
            code = exc.exit_code
        except click.ClickException as exc:
            code = _fail(argv, type(exc).__name__, exc.format_message(), _usage_hint(exc), 2)
        except EmbregError as exc:
            code = _fail(argv, type(exc).__name__, exc.message, exc.hint, exc.exit_code)
        except (click.Abort, KeyboardInterrupt):
            hint = "nothing is half-done: 'embreg log' shows what was finished"
            code = _fail(argv, "Interrupted", "interrupted", hint, 3)
        except MemoryError:
            code = _fail(argv, "MemoryError", "out of memory: nothing was published", "", 3)
        except Exception as exc:
            if os.environ.get("EMBREG_DEBUG"):
                raise
            code = _unforeseen(argv, exc)
        sys.exit(code if isinstance(code, int) else 0)


def _complete_quietly() -> None:
    """Prepare for a shell that asks what may be typed: it shows whatever comes, in the middle of its line."""
    from .evals.completion import install

    install()
    sys.stderr = io.StringIO()


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Tell of a suite that is left out as of everything else: one line on stderr."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category.__name__ == "SuiteLeftOut":  # its module is not loaded where nothing is measured
                click.echo(f"embreg: warning: {printable(str(message), 2000)}", err=True)
            else:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield


def _width() -> int:
    """Return the columns that a reader has, by $COLUMNS or the terminal; a pipe has no width."""
    from shutil import get_terminal_size

    if not (sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal()):
        return UNFOLDED
    return max(get_terminal_size().columns, NARROWEST)


def _silence_stdout() -> None:
    """Send stdout nowhere: what is left in its buffer would fail again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _json(document: Mapping[str, Any]) -> str:
    """Return JSON with readable letters that gives a terminal no controls, not even over direction."""
    import json

    # Indenting takes four times as long: it is for those who read, and nobody reads a pipe.
    text = json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None)
    pieces = (text[i : i + _PIECE] for i in range(0, len(text), _PIECE))
    return "".join(p if p.replace("\n", "").isprintable() else _escaped(p) for p in pieces)


def _escaped(text: str) -> str:
    import json

    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _usage_hint(exc: click.ClickException) -> str:
    context = getattr(exc, "ctx", None)
    return f"'{context.command_path} --help' tells more" if context is not None else ""


def _unforeseen(argv: Sequence[str], exc: Exception) -> int:
    """Tell of an exception that is nobody's message: bytes in the arguments that are no text, or a bug."""
    raw = [word for word in argv if any("\ud800" <= c <= "\udfff" for c in word)]
    if raw and isinstance(exc, UnicodeEncodeError | TypeError):  # FAISS says TypeError
        return _fail(argv, "UsageError", f"'{printable(raw[0])}' is not UTF-8 text", "", 2)
    told = f"internal error: {type(exc).__name__}: {exc}"
    hint = "a bug: EMBREG_DEBUG=1 shows where; please report it"
    return _fail(argv, type(exc).__name__, told, hint, 3)


def _fail(argv: Sequence[str], kind: str, message: str, hint: str, code: int) -> int:
    """Tell what went wrong and return the exit code."""
    if "--json" in argv:
        from .evals.report.documents import error

        click.echo(_json(error(kind, message, hint)))
    line = printable(message, 2000) + (f" ({printable(hint, 500)})" if hint else "")
    click.echo(f"embreg: {line}", err=True)
    return code


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --json, --registry and --config, and pass it the context."""

    def keep(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
            if value:
                setattr(ctx.ensure_object(Context), name, value)

        return callback

    shared = (
        click.option("--json", is_flag=True, expose_value=False, callback=keep("json"),
                     help="Print one JSON document on stdout."),
        click.option("--registry", metavar="DIR", expose_value=False, callback=keep("registry_option"),
                     help="The registry [default: $EMBREG_REGISTRY, embreg.toml, .embreg]."),
        click.option("--config", metavar="FILE", expose_value=False, callback=keep("config_option"),
                     help="The embreg.toml to use [default: the nearest one upwards]."),
    )  # fmt: skip
    command = click.make_pass_decorator(Context, ensure=True)(command)
    for option in shared:
        command = option(command)
    return command


def _at_device(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    """Hold the device for as long as the command runs."""
    if not ctx.resilient_parsing:
        from .evals.devices import at_device

        ctx.with_resource(at_device(value))


DEVICE = click.option(
    "--device",
    metavar="D",
    type=Known("device"),
    expose_value=False,
    callback=_at_device,
    help="Where neighbours are computed: auto, cpu or cuda [default: $EMBREG_DEVICE, auto].",
)


@click.group(cls=Main, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="embreg")
@common
def main(ctx: Context) -> None:
    """Version embeddings, measure every version, rebuild what depends on them.

    Alone it shows the state of the registry: what there is, what is stale, what failed last, what to do next.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    from .evals.report import state

    root, found = ctx.root(), None
    with suppress(RegistryNotFound), ctx.open() as registry:
        root, found = str(registry.root), registry.state()
    ctx.show(state.document(root, found) if ctx.json else {}, lambda: state.view(root, found))


@main.command()
@click.argument("path", required=False)
@common
def init(ctx: Context, path: str | None) -> None:
    """Make a registry at PATH (default: the registry in force).

    Example: embreg init
    """
    from .registry.registry import Registry

    with Registry.create(path or ctx.root(), command=ctx.command_line) as registry:
        document = {"registry": str(registry.root), "revision": registry.revision()}
    ctx.show(document, lambda: f"registry at {document['registry']}, schema {document['revision']}")


@main.command()
@click.argument("name", type=NAME)
@click.argument("source", type=click.Path())
@click.option(
    "--format", "format_", metavar="F", type=FORMAT, help="Insist on a format instead of finding it out."
)
@click.option("--model", metavar="M", help="The encoder, by any name that identifies it.")
@click.option(
    "--tokenizer",
    metavar="FILE",
    type=click.Path(),
    help="The tokenizer: recorded by its sha256; its tokens are the ids of a checkpoint.",
)
@click.option(
    "--kind",
    metavar="K",
    type=Known("kind"),
    help="word, token-input, token-output, hidden, sentence, item or other.",
)
@click.option(
    "--metric", metavar="METRIC", type=Known("comparison"), help="cosine, dot or l2: how rows are compared."
)
@click.option("--pooling", metavar="P", help="How token states became one vector: mean, cls, max …")
@click.option(
    "--position",
    metavar="P",
    type=Known("position"),
    help="How position enters: none, additive, rotary or bias.",
)
@click.option("--tied/--untied", default=None, help="Whether the input and the output table are one.")
@click.option("--tag", "tags", metavar="K=V", multiple=True, help="Free words, repeatable.")
@click.option(
    "--ids",
    metavar="FILE",
    type=click.Path(),
    help="Ids of an array or token table: lines, Parquet, JSON, or a tokenizer.",
)
@click.option("--id-column", metavar="C", help="Column that holds the ids.")
@click.option("--vector-column", metavar="C", help="Column that holds the vectors.")
@click.option("--tensor", metavar="T", help="Array of an .npz, or tensor of a checkpoint.")
@click.option("--encoding", metavar="E", default="utf-8", show_default=True, help="Of a text source.")
@click.option("--on-nonfinite", metavar="HOW", type=Known("nonfinite"), default="fail", show_default=True,
              help="Rows with NaN or infinity: fail or drop.")  # fmt: skip
@click.option(
    "--storage",
    metavar="S",
    type=Known("storage"),
    default="arrow",
    show_default=True,
    help="arrow (mapped) or parquet (smaller).",
)
@click.option(
    "-m", "--message", metavar="TEXT", default="", help="What a person should know of this version."
)
@click.option("--alias", metavar="A", type=ALIAS, help="Move this alias to the new version.")
@click.option("--if-changed", is_flag=True, help="Do nothing if the latest version has the same content.")
@click.option(
    "--probes",
    metavar="FILE",
    type=click.Path(),
    help="Vectors of a handful of fixed inputs: they identify the encoder.",
)
@click.option(
    "--allow-space-change", is_flag=True, help="Register even if the probes show another space than before."
)
@common
def register(
    ctx: Context, name: str, source: str, format_: str | None, tags: tuple[str, ...], **given: Any
) -> None:
    """Register SOURCE as the next version of NAME.

    What is not said (model, kind, metric …) is as in the version before.

    Example: embreg register words glove.6B.50d.txt --kind word --model glove-6b -m "first import"
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("registering") as progress:
        done = registry.register(
            name, source, format=format_, tags=_pairs("--tag", tags), progress=progress, **given
        )
    ctx.show(documents.registered(done), lambda: listing.registered(done))


def _pairs(what: str, given: tuple[str, ...]) -> dict[str, str] | None:
    pairs: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{what} {printable(text)}: expected KEY=VALUE")
        if key in pairs:
            raise UsageError(f"{what} {printable(key)} is given twice", hint="which of the two is meant?")
        pairs[key] = value
    return pairs or None


@main.command("list")
@click.argument("name", type=NAME, required=False)
@common
def list_(ctx: Context, name: str | None) -> None:
    """List every version of every embedding, or of NAME.

    Example: embreg list words
    """
    from .evals.report import documents

    def view() -> RenderableType:
        from .evals.report import listing

        return listing.versions(found)

    with ctx.open() as registry:
        found = registry.versions(name)
    ctx.show(documents.embeddings(found) if ctx.json else {}, view)


@main.command()
@click.argument("ref", type=REF)
@click.option(
    "--at", metavar="TIME", type=click.DateTime(AT_FORMATS), help="The version it named then (UTC)."
)
@common
def show(ctx: Context, ref: str, at: datetime | None) -> None:
    """Show everything about one version: shape, space, digests, norms.

    Example: embreg show words@production --at 2026-05-01
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        version = registry.resolve(ref) if at is None else registry.resolve_at(ref, at)
        derivation = registry.derivation(version.ref) if at is None else None
    document = documents.version(version)
    document["derived"] = documents.derivation(derivation) if derivation is not None else None
    ctx.show(document, lambda: listing.version(version, derivation))


@main.command()
@click.argument("name", type=NAME, required=False)
@click.option(
    "-n", "--last", "limit", metavar="N", type=click.IntRange(1, MOST), help="Only the last N events."
)
@click.option(
    "--since",
    metavar="WHEN",
    type=Since(),
    help="Only events from a time on (UTC), or after the event of this id.",
)
@click.option("--all", "everything", is_flag=True, help=f"Every event, not only the last {LOGGED:,}.")
@common
def log(
    ctx: Context, name: str | None, limit: int | None, since: datetime | int | None, everything: bool
) -> None:
    """Show what was done: who, when, what, from which command, oldest first.

    A program follows the log by asking for what came after the last id that it has seen.

    Example: embreg log words -n 20; embreg log --since 4711 --json
    """
    from .evals.report import documents, listing

    if limit is None and since is None and not everything:
        limit = LOGGED
    with ctx.open() as registry:
        events = registry.log(name, limit=limit, since=since)
        earlier = registry.count_events(name) - len(events) if since is None else 0
    document = documents.events(events) | {"earlier": earlier} if ctx.json else {}
    ctx.show(document, lambda: listing.events(events, earlier))


@main.command()
@click.argument("old", type=REF)
@click.argument("new", type=REF)
@common
def diff(ctx: Context, old: str, new: str) -> None:
    """Say what changed from OLD to NEW, by id, and what an index would need.

    Example: embreg diff words@1 words@2
    """
    from .evals.report import documents, listing
    from .registry.diff import ANY_TYPE, repair

    with ctx.open() as registry, ctx.progress("comparing"):
        found = registry.diff(old, new)
    action, _ = repair(found, ANY_TYPE)
    ctx.show(documents.diff(found, action), lambda: listing.diff(found, action))


@main.command()
@click.argument("ref", type=REF)
@click.argument("dest", type=click.Path())
@click.option("--format", "format_", metavar="F", type=FORMAT, help="By default from the suffix of DEST.")
@click.option("--overwrite", is_flag=True, help="Replace DEST if it is there.")
@common
def export(ctx: Context, ref: str, dest: str, format_: str | None, overwrite: bool) -> None:
    """Write a version to a file in a foreign format.

    Example: embreg export words@2 words.parquet
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("exporting") as progress:
        done = registry.export(ref, dest, format=format_, overwrite=overwrite, progress=progress)
    ctx.show(documents.exported(done), lambda: listing.exported(done))


@main.group()
def alias() -> None:
    """Movable names of versions, like production."""


@alias.command("set")
@click.argument("name", type=NAME)
@click.argument("alias", type=ALIAS)
@click.argument("ref", type=REF)
@click.option("--if-was", metavar="REF", type=REF, help="Only if it names this version now.")
@click.option(
    "--also",
    metavar="[NAME@]ALIAS=REF",
    multiple=True,
    help="Another alias, of NAME or of another embedding, in the same transaction; repeatable.",
)
@common
def alias_set(
    ctx: Context, name: str, alias: str, ref: str, if_was: str | None, also: tuple[str, ...]
) -> None:
    """Point ALIAS of NAME at REF; with --also, several aliases at once, or none of them.

    Example: embreg alias set users production users@3 --also items@production=items@7
    """
    from rich.console import Group

    from .evals.report import documents, listing
    from .registry.aliases import Wish

    wishes = [Wish(name=name, alias=alias, ref=ref, if_was=if_was)]
    for moved, target in (_pairs("--also", also) or {}).items():
        other, at, own = moved.rpartition("@")
        wishes.append(Wish(name=other if at else name, alias=own, ref=target))
    with ctx.open() as registry, ctx.progress("judging what depends on it"):
        moves = registry.alias_all(wishes)
    document = documents.alias_move(moves[0]) | {"also": [documents.alias_move(move) for move in moves[1:]]}
    ctx.show(document, lambda: Group(*map(listing.alias_move, moves)))


@alias.command("protect")
@click.argument("name", type=NAME)
@click.argument("alias", type=ALIAS)
@click.option("--off", is_flag=True, help="Let it move freely again.")
@common
def alias_protect(ctx: Context, name: str, alias: str, off: bool) -> None:
    """Let ALIAS of NAME move only by 'promote': to versions that passed their gate.

    Example: embreg alias protect words production
    """
    with ctx.open() as registry:
        registry.protect(name, alias, protected=not off)
    told = "moves freely" if off else "moves by promotion only"
    ctx.show({"alias": f"{name}@{alias}", "protected": not off}, lambda: f"{name}@{alias} {told}")


@alias.command("list")
@click.argument("name", type=NAME)
@common
def alias_list(ctx: Context, name: str) -> None:
    """List the aliases of NAME.

    Example: embreg alias list words
    """
    from .evals.report import listing

    with ctx.open() as registry:
        found, protected = registry.aliases(name), registry.protected_aliases(name)
    rows = [{"alias": a, "ref": ref, "protected": a in protected} for a, ref in found.items()]
    ctx.show({"aliases": rows}, lambda: listing.aliases(found, protected))


@alias.command("history")
@click.argument("name", type=NAME)
@click.argument("alias", type=ALIAS, required=False)
@common
def alias_history(ctx: Context, name: str, alias: str | None) -> None:
    """Show every move of ALIAS (or of all aliases) of NAME: when, from, to, why, by whom.

    Example: embreg alias history words production
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        moves = registry.alias_history(name, alias)
    ctx.show(documents.alias_history(moves), lambda: listing.alias_history(moves))


@alias.command("rm")
@click.argument("name", type=NAME)
@click.argument("alias", type=ALIAS)
@common
def alias_rm(ctx: Context, name: str, alias: str) -> None:
    """Remove ALIAS of NAME; refused while an index tracks it.

    Example: embreg alias rm words staging
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        move = registry.remove_alias(name, alias)
    ctx.show(documents.alias_move(move), lambda: listing.alias_move(move))


@main.command()
@click.argument("ref", type=REF)
@click.argument("alias", type=ALIAS)
@common
def promote(ctx: Context, ref: str, alias: str) -> None:
    """Move ALIAS to REF if REF passed its gate against what ALIAS names now.

    Example: embreg promote words@2 production
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("judging what depends on it"):
        move = registry.promote(ref, alias)
    ctx.show(documents.alias_move(move), lambda: listing.alias_move(move))


@main.command()
@click.argument("ref", type=REF)
@click.argument("item", metavar="ID")
@click.option("-k", metavar="K", type=int, default=10, show_default=True, help="How many.")
@click.option(
    "--metric",
    metavar="METRIC",
    type=click.Choice(["cosine", "dot", "l2"]),
    help="By default the space's own.",
)
@DEVICE
@common
def neighbors(ctx: Context, ref: str, item: str, k: int, metric: str | None) -> None:
    """Show the rows nearest to ID, exactly.

    Example: embreg neighbors words king -k 5
    """
    from .evals import queries
    from .evals.report import documents, listing

    with ctx.open() as registry:
        version = registry.resolve(ref)
        found = queries.neighbors(registry.table(version), item, k, metric=metric)
    document = documents.neighbors(found, ref=version.ref, id=item, metric=metric or version.space.metric)
    ctx.show(document, lambda: listing.neighbors(found))


@main.command()
@click.argument("ref", type=REF)
@click.argument("a")
@click.argument("b")
@click.argument("c")
@click.option("-k", metavar="K", type=int, default=10, show_default=True, help="How many.")
@DEVICE
@common
def analogy(ctx: Context, ref: str, a: str, b: str, c: str, k: int) -> None:
    """A is to B as C is to what? (3CosAdd: the rows nearest to B - A + C).

    Example: embreg analogy words man king woman
    """
    from .evals import queries
    from .evals.report import documents, listing

    with ctx.open() as registry:
        version = registry.resolve(ref)
        found = queries.analogy(registry.table(version), a, b, c, k)
    ctx.show(documents.neighbors(found, ref=version.ref, a=a, b=b, c=c), lambda: listing.neighbors(found))


@main.group()
def index() -> None:
    """FAISS indexes that follow an embedding."""


@index.command("build")
@click.argument("name", metavar="INDEX", type=INDEX)
@click.argument("ref", type=REF)
@click.option(
    "--factory",
    metavar="S",
    required=True,
    help="A FAISS factory string: Flat, HNSW32, IVF1024,Flat, BFlat …",
)
@click.option("--search", metavar="P=V", default="", help="FAISS search parameters: nprobe=16, efSearch=64 …")
@click.option(
    "--track",
    metavar="ALIAS",
    type=TRACKED,
    default="latest",
    show_default=True,
    help="Whose moves it follows.",
)
@common
def index_build(ctx: Context, name: str, ref: str, factory: str, search: str, track: str) -> None:
    """Build INDEX from REF; from then on it is judged whenever what it tracks moves.

    Example: embreg index build words words@1 --factory IVF1024,Flat --search nprobe=16
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("building") as progress:
        state = registry.index(name, ref, factory=factory, search=search, track=track, progress=progress)
    ctx.show(documents.indexes([state]), lambda: listing.indexes([state]))


@index.command("list")
@common
def index_list(ctx: Context) -> None:
    """List every index with its state.

    Example: embreg index list
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        states = registry.indexes()
    ctx.show(documents.indexes(states), lambda: listing.indexes(states))


@index.command("status")
@click.argument("name", metavar="INDEX", type=INDEX, required=False)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something is stale.")
@common
def index_status(ctx: Context, name: str | None, exit_code: bool) -> int:
    """Say of INDEX, or of all, whether it is fresh, why not, and the cheapest repair.

    Example: embreg index status --exit-code
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        states = registry.indexes(name)
    ctx.show(documents.indexes(states), lambda: listing.indexes(states))
    return int(exit_code and any(state.stale for state in states))


@index.command("rebuild")
@click.argument("name", metavar="INDEX", type=INDEX, required=False)
@click.option("--stale", is_flag=True, help="Every index that is stale.")
@click.option("--full", is_flag=True, help="Build anew, whatever the cheapest repair is.")
@common
def index_rebuild(ctx: Context, name: str | None, stale: bool, full: bool) -> None:
    """Do the repair that INDEX needs: add, update or rebuild; a fresh one is left alone.

    Example: embreg index rebuild --stale
    """
    from .evals.report import documents, listing

    if (name is None) != stale:
        raise UsageError("name one index, or --stale for all that are stale")
    with ctx.open() as registry:
        names = [name] if name else [s.name for s in registry.indexes() if s.stale]
        states = []
        for one in names:
            with ctx.progress(one) as progress:
                states.append(registry.rebuild(one, full=full, progress=progress))
    ctx.show(documents.indexes(states), lambda: listing.indexes(states) if states else "nothing is stale")


@index.command("search")
@click.argument("name", metavar="INDEX", type=INDEX)
@click.argument("item", metavar="[ID]", required=False)
@click.option("--queries", metavar="FILE", type=click.Path(), help="Vectors to ask for, instead of a row.")
@click.option("-k", metavar="K", type=int, default=10, show_default=True, help="How many.")
@common
def index_search(ctx: Context, name: str, item: str | None, queries: str | None, k: int) -> None:
    """Show the rows nearest to ID, or to the vectors of FILE, as INDEX finds them.

    Example: embreg index search words king -k 5; embreg index search words --queries queries.npy
    """
    from .evals.report import documents, listing

    if (item is None) == (queries is None):
        raise UsageError("give the ID of a row, or --queries FILE")
    with ctx.open() as registry:
        state = registry.indexes(name)[0]
        told = {"index": name, "built_from": state.built_from, "state": state.state}
        if item is not None:
            found = registry.search(name, item, k)
            document = documents.neighbors(found, id=item, **told)
        else:
            answers = registry.search_vectors(name, str(queries), k)
            document = documents.answers(answers, **told)
    if state.stale:
        click.echo(f"embreg: index {name} is stale: {printable(state.reason)}", err=True)
    ctx.show(document, lambda: listing.neighbors(found) if item is not None else listing.answers(answers))


@index.command("rm")
@click.argument("name", metavar="INDEX", type=INDEX)
@common
def index_rm(ctx: Context, name: str) -> None:
    """Forget INDEX and its builds.

    Example: embreg index rm words-old
    """
    with ctx.open() as registry:
        registry.remove_index(name)
    ctx.show({"removed": name}, lambda: f"removed index {name}")


@main.command()
@click.argument("ref", metavar="[REF]", type=REF, required=False)
@click.option(
    "--transform",
    metavar="T",
    type=Known("transform"),
    help="center, normalize, whiten, all-but-the-top, pca, truncate, quantize or adapter.",
)
@click.option(
    "--as", "name", metavar="NAME", type=NAME, help="Name of the derived embedding [default: NAME/TRANSFORM]."
)
@click.option(
    "--to", metavar="REF", type=REF, help="For an adapter: the version in whose space rows shall live."
)
@click.option(
    "-p", "params", metavar="PARAM=V", multiple=True, help="A parameter of the transform, repeatable."
)
@click.option(
    "--track",
    metavar="ALIAS",
    type=TRACKED,
    default="latest",
    show_default=True,
    help="Whose moves it follows.",
)
@click.option(
    "-m", "--message", metavar="TEXT", default="", help="What a person should know of this version."
)
@click.option(
    "--alias", metavar="A", type=ALIAS, help="Move this alias of the derived embedding to the new version."
)
@click.option("--stale", is_flag=True, help="Derive again what is stale: REF alone, or everything.")
@click.option("--refit", is_flag=True, help="With --stale: fit anew, even where the fit could be kept.")
@click.option("--forget", is_flag=True, help="Let the derived embedding REF stand alone: nothing flags it.")
@DEVICE
@common
def derive(
    ctx: Context,
    ref: str | None,
    transform: str | None,
    stale: bool,
    refit: bool,
    forget: bool,
    params: tuple[str, ...],
    **given: Any,
) -> None:
    """Register a transformed REF as a version of its own, which is flagged when REF's embedding moves.

    An adapter maps REF into the space of another version: derive the new version to the old one, and
    'apply' lets queries of the new encoder search the old index until it is rebuilt.

    Example: embreg derive words@2 --transform whiten --as words-white -p dim=40; embreg derive --stale
    """
    from .evals import deriving
    from .evals.report import documents, listing

    if sum((transform is not None, stale, forget)) != 1 or (ref is None and not stale):
        raise UsageError("give REF and --transform, or --stale, or a derived embedding and --forget")
    if refit and not stale:
        raise UsageError("--refit goes with --stale")
    if transform is None and (params or any(given[k] for k in ("name", "to", "message", "alias"))):
        raise UsageError("--as, --to, -p, -m and --alias go with --transform")
    with ctx.open() as registry, ctx.progress("deriving") as progress:
        done: tuple[deriving.Derived, ...] = ()
        if forget:
            registry.forget_derivation(str(ref))
        elif stale:
            done = deriving.derive_stale(registry, ref, refit=refit, progress=progress)
        else:
            asked = _pairs("-p", params)
            one = deriving.derive(
                registry, str(ref), str(transform), params=asked, progress=progress, **given
            )
            done = (one,)
    if forget:
        ctx.show({"forgotten": ref}, lambda: f"{ref} stands alone now")
    elif stale:
        ctx.show({"derived": [documents.derived(d) for d in done]}, lambda: listing.derived(done))
    else:
        ctx.show(documents.derived(done[0]), lambda: listing.derived(done))


@main.command()
@click.argument("ref", type=REF)
@click.argument("source", metavar="FILE", type=click.Path())
@click.option(
    "-o", "--output", "dest", metavar="DEST", type=click.Path(), required=True, help="The file to write."
)
@click.option("--format", "format_", metavar="F", type=FORMAT, help="Of FILE; by default told from it.")
@click.option("--ids", metavar="IDS", type=click.Path(), help="Ids of a bare array.")
@click.option("--tensor", metavar="T", help="Array of an .npz, or tensor of a checkpoint.")
@click.option("--to-format", metavar="F", type=FORMAT, help="Of DEST; by default from its suffix.")
@click.option("--overwrite", is_flag=True, help="Replace DEST if it is there.")
@common
def apply(
    ctx: Context,
    ref: str,
    source: str,
    dest: str,
    format_: str | None,
    ids: str | None,
    tensor: str | None,
    to_format: str | None,
    overwrite: bool,
) -> None:
    """Transform the vectors of FILE as the derived version REF was made: queries go the same way.

    Example: embreg apply words/whiten queries.npy -o queries-white.npy
    """
    from pathlib import Path

    from .evals import deriving
    from .evals.report import documents, listing
    from .registry.formats import Options

    with ctx.open() as registry, ctx.progress("transforming") as progress:
        done = deriving.apply(
            registry,
            ref,
            source,
            dest,
            format=format_,
            options=Options(ids=Path(ids) if ids else None, tensor=tensor),
            dest_format=to_format,
            overwrite=overwrite,
            progress=progress,
        )
    ctx.show(documents.applied(done), lambda: listing.applied(done))


@main.command()
@click.argument("ref", type=REF)
@click.option("--dot", is_flag=True, help="In the language of Graphviz.")
@common
def lineage(ctx: Context, ref: str, dot: bool) -> None:
    """Draw what REF came from and what came from it: versions, indexes, runs, aliases, dependents.

    Example: embreg lineage words@2; embreg lineage words --dot
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        found = registry.lineage(ref)
    shown = (lambda: Verbatim(listing.dot(found))) if dot else (lambda: listing.lineage(found))
    ctx.show(documents.lineage(found), shown)


@main.group()
def dependent() -> None:
    """What depends on a version: indexes, derived embeddings, and things outside."""


@dependent.command("add")
@click.argument("name")
@click.option(
    "--tracks", metavar="REF", type=REF, required=True, help="NAME or NAME@ALIAS: whose moves flag it."
)
@click.option("--command", metavar="CMD", default="", help="How it is built again; shown, never run.")
@click.option("--note", metavar="TEXT", default="", help="What a person should know to repair it.")
@click.option(
    "--built-from", metavar="REF", type=REF, help="The version that it holds [default: the tracked one]."
)
@common
def dependent_add(
    ctx: Context, name: str, tracks: str, command: str, note: str, built_from: str | None
) -> None:
    """Name something outside that was built from a version: a collection, a classifier, a cache.

    Example: embreg dependent add faq-search --tracks docs@production --command "make reindex"
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        added = registry.add_dependent(name, tracks, command=command, note=note, built_from=built_from)
    ctx.show(documents.dependent(added), lambda: listing.dependents([added]))


@dependent.command("list")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if something is stale.")
@common
def dependent_list(ctx: Context, exit_code: bool) -> int:
    """List everything that depends on a version, whether it is stale, why, and what repairs it.

    Example: embreg dependent list --exit-code
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        found = registry.dependents()
    ctx.show({"dependents": [documents.dependent(d) for d in found]}, lambda: listing.dependents(found))
    return int(exit_code and any(d.stale for d in found))


@dependent.command("done")
@click.argument("name", type=Known("dependent"))
@click.option(
    "--built-from", metavar="REF", type=REF, help="What it holds now [default: the tracked version]."
)
@common
def dependent_done(ctx: Context, name: str, built_from: str | None) -> None:
    """Say that NAME was rebuilt, from the version that it tracks or another.

    Example: embreg dependent done faq-search --built-from docs@7
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        now = registry.dependent_done(name, built_from=built_from)
    ctx.show(documents.dependent(now), lambda: listing.dependents([now]))


@dependent.command("rm")
@click.argument("name", type=Known("dependent"))
@common
def dependent_rm(ctx: Context, name: str) -> None:
    """Forget the dependent NAME.

    Example: embreg dependent rm faq-search
    """
    with ctx.open() as registry:
        registry.remove_dependent(name)
    ctx.show({"removed": name}, lambda: f"removed dependent {name}")


@main.group()
def dataset() -> None:
    """Test data that suites run on."""


@dataset.command("add")
@click.argument("name", type=DATASET)
@click.argument("file", type=click.Path())
@click.option(
    "--kind",
    metavar="K",
    type=Known("dataset kind"),
    required=True,
    help="analogies, pairs, labels, qrels or positives.",
)
@click.option("--encoding", metavar="E", default="utf-8", show_default=True, help="Of the file.")
@click.option(
    "--vectors",
    metavar="REF|FILE",
    help="Of the queries (qrels) or second ids (positives), where these are no rows of the embedding.",
)
@click.option("--licence", "--license", "licence", metavar="TEXT", default="", help="Of the rows.")
@click.option("--source", metavar="URL|TEXT", help="Where the rows come from [default: the path].")
@click.option("--dry-run", is_flag=True, help="Read FILE and tell of it; store nothing.")
@common
def dataset_add(ctx: Context, name: str, file: str, kind: str, **given: Any) -> None:
    """Register FILE (for analogies also a BATS folder) as the dataset NAME, and say what is suspicious in it.

    Example: embreg dataset add google questions-words.txt --kind analogies --licence Apache-2.0
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("reading"):
        added = registry.add_dataset(name, file, kind, **given)
    ctx.show(documents.added_dataset(added), lambda: listing.added_dataset(added))


@dataset.command("list")
@common
def dataset_list(ctx: Context) -> None:
    """List the datasets, and those that are built in.

    Example: embreg dataset list
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        found, builtin = registry.datasets(), registry.builtin_datasets()
    ctx.show(documents.datasets(found, builtin), lambda: listing.datasets(found, builtin))


@dataset.command("show")
@click.argument("name", type=DATASET)
@click.option("-n", "--rows", "count", metavar="N", type=click.IntRange(0, MOST), default=10,
              show_default=True, help="How many of the first rows to show.")  # fmt: skip
@common
def dataset_show(ctx: Context, name: str, count: int) -> None:
    """Show everything about the dataset NAME, registered or built in, with its first rows.

    Example: embreg dataset show google -n 5
    """
    from .evals.report import documents, listing
    from .registry.datasets import counts, first_rows

    with ctx.open() as registry:
        found = registry.dataset(name)
        rows = registry.dataset_rows(found)
    contents = found, first_rows(rows, count), counts(rows, found.kind)
    ctx.show(documents.dataset_contents(*contents), lambda: listing.dataset_contents(*contents))


@dataset.command("rm")
@click.argument("name", type=DATASET)
@common
def dataset_rm(ctx: Context, name: str) -> None:
    """Forget the dataset NAME; runs on it stay, and the rows as long as there are such runs.

    Example: embreg dataset rm google
    """
    from .evals.report import documents

    with ctx.open() as registry:
        removed = registry.remove_dataset(name)
    ctx.show({"removed": name} | documents.dataset(removed), lambda: f"removed dataset {name}")


def _params(ctx: Context, given: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Merge the parameters of embreg.toml with those of the command line, which win."""
    from .evals.runner import params_of

    config = ctx.config()
    merged = params_of(config) if config is not None else {}
    for key, value in (_pairs("-p", given) or {}).items():
        suite, dot, param = key.partition(".")
        if not dot:
            raise UsageError(f"-p {printable(key)}: expected SUITE.PARAMETER=VALUE")
        merged.setdefault(suite, {})[param] = value
    return merged


PARAM = click.option(
    "-p",
    "params",
    metavar="SUITE.PARAM=V",
    type=Known("parameter"),
    multiple=True,
    help="A parameter, repeatable.",
)
SEED = click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(0, MOST),
    default=0,
    show_default=True,
    help="Of every random choice.",
)
CONFIDENCE = click.option(
    "--confidence",
    metavar="C",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Of the intervals.",
)
QUERIES = click.option(
    "--queries",
    metavar="N",
    type=click.IntRange(0, MOST),
    help="Rows asked for their neighbours, 0 for all [default: all up to 50,000 rows, 10,000 of more].",
)
NEIGHBORS = click.option(
    "--neighbors",
    type=click.Choice(["exact", "approx"]),
    default="exact",
    show_default=True,
    help="approx: above 50,000 rows an index finds them; what it misses is measured.",
)
FORCE = click.option("--force", is_flag=True, help="Measure again what was measured before.")


def _failures(runs: Sequence[RunRecord]) -> int:
    """Tell which suites failed, and return the exit code."""
    failed = [f"{run.suite} failed on {run.version}: {run.reason}" for run in runs if run.status == "error"]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        click.echo(f"embreg: {printable(failed[0], 2000)}{more}", err=True)
    return 3 if failed else 0


@main.command("eval")
@click.argument("ref", type=REF)
@click.option(
    "--suite", "suites", metavar="S", type=SUITE, multiple=True, help="A suite, repeatable; by default all."
)
@click.option("--baseline", metavar="REF", type=REF, help="The version to compare with.")
@click.option(
    "--dataset",
    "datasets",
    metavar="D",
    type=DATASET,
    multiple=True,
    help="A dataset, repeatable [default: all, else a built-in one that fits].",
)
@PARAM
@SEED
@CONFIDENCE
@QUERIES
@NEIGHBORS
@FORCE
@DEVICE
@common
def eval_(
    ctx: Context,
    ref: str,
    suites: tuple[str, ...],
    baseline: str | None,
    datasets: tuple[str, ...],
    params: tuple[str, ...],
    seed: int,
    confidence: float,
    queries: int | None,
    neighbors: str,
    force: bool,
) -> int:
    """Measure REF with every suite whose needs are met, and record the numbers.

    Example: embreg eval words@2 --baseline words@1 -p analogies.restrict_vocab=0
    """
    from .evals.report import console, documents
    from .evals.runner import discover, evaluate

    with ctx.open() as registry, ctx.progress("evaluating") as progress:
        runs = evaluate(
            registry,
            ref,
            suites=suites,
            baseline=baseline,
            datasets=datasets,
            params=_params(ctx, params),
            seed=seed,
            confidence=confidence,
            queries=queries,
            neighbors=neighbors,
            force=force,
            progress=progress,
        )
        against = registry.resolve(baseline).ref if baseline else None
        before = registry.runs(against) if against else ()
    ctx.show(
        documents.runs(runs),
        lambda: console.runs(runs, suites=discover(), baseline=before, against=against),
    )
    return _failures(runs)


@main.command()
@click.argument("old", metavar="A", type=REF)
@click.argument("new", metavar="[B]", type=REF, required=False)
@click.option("--history", is_flag=True, help="From each version of NAME to the next.")
@click.option("--floor", is_flag=True, help="Also measure what of each number is noise.")
@click.option(
    "--like", metavar="REF", type=REF, multiple=True, help="A version that ought to equal A, repeatable."
)
@PARAM
@SEED
@CONFIDENCE
@NEIGHBORS
@FORCE
@DEVICE
@common
def drift(
    ctx: Context,
    old: str,
    new: str | None,
    history: bool,
    floor: bool,
    like: tuple[str, ...],
    params: tuple[str, ...],
    **chosen: Any,
) -> int:
    """Say how far B drifted from A: a verdict, and what it rests on.

    With --floor, the noise of each number is measured too, on random halves of the shared rows and with other
    seeds. Versions named by --like, such as the same model trained again, show how far equals drift apart.

    Example: embreg drift words@1 words@2; embreg drift words --history; embreg drift words@1 words@2 --floor
    """
    from .evals.report import console, documents
    from .evals.runner import discover, drift, drift_history

    if history != (new is None):
        raise UsageError("give two versions, or one name and --history")
    if history and (floor or like):
        raise UsageError("a floor is that of two versions, not of a history")
    if (floor or like) and chosen["neighbors"] != "exact":
        raise UsageError("a floor is that of exact neighbours", hint="leave --neighbors out")
    chosen["params"] = _params(ctx, params)
    if new is not None and (floor or like):
        del chosen["neighbors"]
        return _drift_floor(ctx, old, new, like, chosen)
    with ctx.open() as registry, ctx.progress("comparing") as progress:
        chosen["progress"] = progress
        runs = (
            drift_history(registry, old, **chosen) if new is None else (drift(registry, old, new, **chosen),)
        )
    document = documents.history(runs) if history else documents.drift(runs[0])
    ctx.show(document, lambda: console.runs(runs, suites=discover()))
    return _failures(runs)


def _drift_floor(ctx: Context, old: str, new: str, like: tuple[str, ...], chosen: dict[str, Any]) -> int:
    """Show drift with its floor, and return the exit code."""
    from .evals.flooring import drift_floor
    from .evals.report import floor
    from .evals.runner import suite_named

    with ctx.open() as registry, ctx.progress("comparing") as progress:
        report = drift_floor(registry, old, new, like=like, progress=progress, **chosen)
    ctx.show(floor.document(report), lambda: floor.view(report, suite_named("drift")))
    return _failures([report.run, *report.alike])


CSV = click.option(
    "--csv",
    metavar="FILE",
    type=click.Path(),
    help="Write CSV; - is stdout. A text that a spreadsheet would take for a formula gets an apostrophe.",
)
LABELS = click.option("--labels", metavar="K=V", multiple=True, help="Only what bears it, repeatable.")
ALL_LABELS = click.option("--all-labels", is_flag=True, help="Slices and variants too.")


def _tabular(
    ctx: Context, csv: str | None, table: Callable[[], Any], document: Any, view: Callable[[], RenderableType]
) -> None:
    """Write CSV where it is asked for; show a document, or what a person reads."""
    if csv is None:
        ctx.show(document, view)
        return
    from .evals.report.delimited import delimited

    text = delimited(table())
    if csv == "-":
        if ctx.json:
            raise UsageError("--json and --csv - both write to stdout", hint="name a file: --csv FILE")
        ctx.show(document, lambda: Verbatim(text.removesuffix("\n")))
        return
    _write(csv, text)
    ctx.show(document, lambda: f"wrote {printable(csv)}")


@main.command()
@click.argument("refs", metavar="A B [C]...", type=REF, nargs=-1)
@click.option(
    "--suite", "suites", metavar="S", type=SUITE, multiple=True, help="A suite, repeatable; by default all."
)
@click.option(
    "--dataset",
    "datasets",
    metavar="D",
    type=DATASET,
    multiple=True,
    help="A dataset, repeatable; by default all.",
)
@click.option("--only-changed", is_flag=True, help="Only rows in which a version differs from A.")
@ALL_LABELS
@click.option("--recorded", is_flag=True, help="Measure nothing: compare what was measured before.")
@click.option(
    "--alpha",
    metavar="P",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="At which a difference is significant.",
)
@CSV
@PARAM
@SEED
@DEVICE
@common
def compare(
    ctx: Context,
    refs: tuple[str, ...],
    csv: str | None,
    suites: tuple[str, ...],
    datasets: tuple[str, ...],
    only_changed: bool,
    all_labels: bool,
    recorded: bool,
    alpha: float,
    params: tuple[str, ...],
    seed: int,
) -> int:
    """Set versions side by side: every metric, its change from A, and whether that is more than chance.

    What was not measured yet is measured. Where a metric follows from its items (questions, rows), they are
    tested in pairs, two-sided, with Holm's correction over all tests of the comparison.

    Example: embreg compare words@production words@4 words@5 --suite analogies; embreg compare a@1 a@2 --csv -
    """
    from .evals.comparing import compare
    from .evals.report import comparison

    with ctx.open() as registry, ctx.progress("comparing") as progress:
        found = compare(
            registry,
            refs,
            suites=suites,
            datasets=datasets,
            params=_params(ctx, params) if params or not recorded else None,
            seed=seed,
            alpha=alpha,
            glance=not all_labels,
            measure=not recorded,
            progress=progress,
        )
    shown = found.changed() if only_changed else found
    _tabular(ctx, csv, shown.to_arrow, shown.to_dict(), lambda: comparison.comparison(shown))
    return _failures([run for runs in found.runs.values() for run in runs])


@main.command()
@click.argument("run", type=REF)
@click.argument("other", metavar="[OTHER]", type=REF, required=False)
@click.option("--suite", metavar="S", type=SUITE, help="Which run of a version is meant.")
@click.option("--dataset", metavar="D", type=DATASET, help="Which run of a version is meant.")
@click.option("--worst", metavar="N", type=click.IntRange(1, MOST), help="The N worst [default: 20].")
@click.option("--best", metavar="N", type=click.IntRange(1, MOST), help="The N best.")
@click.option("--flipped", is_flag=True, help="Of two versions: what broke and what was mended.")
@click.option("--sort", "column", metavar="COLUMN", help="Rank by another column of the items.")
@LABELS
@CSV
@common
def items(
    ctx: Context, run: str, other: str | None, labels: tuple[str, ...], csv: str | None, **chosen: Any
) -> None:
    """Show the items behind RUN (its number, or a version): the worst first, by the metric's own direction.

    With OTHER, the newer of two versions: the items of both in pairs, those first that became worse. Right or
    wrong: which broke; hubness: which rows became hubs; drift: which rows moved most.

    Example: embreg items 12 --worst 20; embreg items words@1 words@2 --suite analogies --flipped
    """
    from .evals.itemizing import items
    from .evals.report import items as page
    from .evals.runner import discover

    if csv is not None and chosen["worst"] is None and chosen["best"] is None:
        chosen |= {"worst": MOST, "best": MOST if chosen["flipped"] else None}
    with ctx.open() as registry:
        found = items(registry, run, other, labels=_pairs("--labels", labels), **chosen)
    suite = discover().get(found.run.suite)
    _tabular(ctx, csv, found.table, found.to_dict(), lambda: page.items(found, suite=suite))


@main.command()
@click.argument("name", type=REF)
@click.option("--metric", metavar="M", type=Known("metric"), help="METRIC or SUITE.METRIC; by default all.")
@LABELS
@ALL_LABELS
@CSV
@common
def metrics(
    ctx: Context, name: str, metric: str | None, labels: tuple[str, ...], all_labels: bool, csv: str | None
) -> None:
    """Show what was measured of NAME (or of one version), version after version, the latest last.

    Example: embreg metrics words --metric hubness.skewness; embreg metrics words --csv metrics.csv
    """
    from .evals.report import documents, series
    from .evals.runner import check_metric, discover

    with ctx.open() as registry:
        points = documents.series(registry.runs(name), metric)["series"]
    if metric is not None and not points:
        check_metric(metric)
    points = series.labelled(points, _pairs("--labels", labels) or {})
    glance = not (all_labels or metric or labels)
    _tabular(
        ctx,
        csv,
        lambda: series.long(points),
        {"series": points},
        lambda: series.series(points, suites=discover(), glance=glance),
    )


class RefOrInit(RefType):
    """A reference, or the word that begins the other command."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Return the references that begin with what is typed, and ``init`` where that does."""
        from click.shell_completion import CompletionItem

        own = [CompletionItem("init", help="Write checks.")] if "init".startswith(incomplete) else []
        return own + super().shell_complete(ctx, param, incomplete)


class Gate(click.Command):
    """A command whose first word may be ``init``, which is another; the embedding of that name is init@1."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Return the context of the command that is meant."""
        if args[:1] == ["init"]:
            return gate_init.make_context(f"{info_name} init", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@main.command(cls=Gate)
@click.argument("ref", type=RefOrInit(), required=False)
@click.option(
    "--baseline", metavar="REF", type=REF, help="The version to compare with [default: NAME@production]."
)
@click.option("--no-baseline", is_flag=True, help="Compare with nothing.")
@click.option("--explain", is_flag=True, help="Only say what each check would do; nothing is measured.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of embreg.toml, for editors.")
@click.option("--junit", metavar="FILE", type=click.Path(), help="Write JUnit XML.")
@click.option("--markdown", metavar="FILE", type=click.Path(), help="Write Markdown.")
@click.option("--html", metavar="FILE", type=click.Path(), help="Write a self-contained page.")
@SEED
@DEVICE
@common
def gate(ctx: Context, ref: str | None, seed: int, explain: bool, schema: bool, **given: Any) -> int:
    """Hold REF against the checks of embreg.toml; exit with 1 if one fails.

    The checks are written by hand, or by 'embreg gate init NAME' from what was measured ('embreg gate init
    --help').

    Example: embreg gate words@2 --baseline words@production --junit gate.xml; embreg gate words@2 --explain
    """
    if schema:
        return _schema(ctx)
    if ref is None:
        raise click.MissingParameter(ctx=click.get_current_context(), param_type="argument", param_hint="REF")
    from .evals.gating import gate
    from .evals.report import console, documents
    from .evals.runner import discover

    asked = {key: given[key] for key in ("baseline", "no_baseline")} | {"config": ctx.config(), "seed": seed}
    if explain:
        return _explain(ctx, ref, asked)
    with ctx.open() as registry, ctx.progress("gating") as progress:
        result = gate(registry, ref, **asked, progress=progress)
    _write_pages(ctx, result, given["junit"], given["markdown"], given["html"])
    verdict = result.verdict
    for doubt in result.doubts:
        click.echo(f"embreg: warning: {doubt}", err=True)
    ctx.show(documents.gate(verdict, result.indexes), lambda: console.verdict(verdict, suites=discover()))
    return 0 if verdict.passed else 1


def _schema(ctx: Context) -> int:
    """Print the schema of embreg.toml, with the suites of installed packages."""
    from .evals import schema
    from .evals.discovery import discover

    suites = discover()
    ctx.show(schema.config_schema(suites), lambda: Verbatim(schema.text(suites).removesuffix("\n")))
    return 0


def _explain(ctx: Context, ref: str, asked: dict[str, Any]) -> int:
    """Show what each check would do."""
    from .evals.explaining import explain
    from .evals.report import explanation

    with ctx.open() as registry:
        found = explain(registry, ref, **asked)
    ctx.show(explanation.document(found), lambda: explanation.view(found))
    return 0


@click.command("init")
@click.argument("name", type=REF)
@click.option("--stdout", is_flag=True, help="Print the file instead of writing it.")
@click.option("--force", is_flag=True, help="Replace the [[gates]] of a file that has some.")
@SEED
@DEVICE
@common
def gate_init(ctx: Context, name: str, stdout: bool, force: bool, seed: int) -> None:
    """Write checks into embreg.toml, from what was measured of NAME (of NAME@production, where that is).

    Each bound says where its number comes from: how far a metric moves where nothing changed, and how far it
    moved between versions that went into production. What was never measured is left out, with the command
    that measures it. Of an embreg.toml that has no [[gates]] nothing is changed but what is added at its end.

    Example: embreg gate init words; embreg gate init words@3 --stdout
    """
    from .evals.placing import place, put
    from .evals.proposing import propose
    from .evals.report import proposal

    where = place(ctx.config_option, force=force, written=not stdout)
    ctx.config_option = str(where.path) if where.config is not None else None
    with ctx.open() as registry, ctx.progress("looking") as progress:
        found = propose(registry, name, config=where.config, seed=seed, progress=progress)
    if stdout:
        ctx.show(proposal.document(found, None), lambda: Verbatim(proposal.text(found).removesuffix("\n")))
        return
    put(where, proposal.text(found))
    ctx.show(proposal.document(found, where.path), lambda: proposal.view(found, where.path))


def _write_pages(
    ctx: Context, result: GateResult, junit: str | None, markdown: str | None, html: str | None
) -> None:
    """Write the pages that were asked for, and the summary of a CI job where one is kept."""
    from .evals.report import junit as junit_page
    from .evals.report import markdown as markdown_page

    verdict = result.verdict
    if junit:
        _write(junit, junit_page.junit(verdict))
    if markdown:
        _write(markdown, markdown_page.markdown(verdict))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _write(summary, markdown_page.markdown(verdict), mode="a")
    if html:
        from .evals.reporting import report

        with ctx.open() as registry, ctx.progress("reporting") as progress:
            found = report(
                registry,
                verdict.ref,
                baseline=verdict.baseline,
                no_baseline=verdict.baseline is None,
                config=ctx.config(),
                verdict=verdict,
                runs=result.runs,
                doubts=result.doubts,
                progress=progress,
            )
        _write_report(found, html, None)


@main.command()
@click.argument("ref", type=REF)
@click.option(
    "--baseline",
    metavar="REF",
    type=REF,
    help="The version to compare with [default: NAME@production, else what REF was last compared with, "
    "else the version before].",
)
@click.option("--no-baseline", is_flag=True, help="Compare with nothing.")
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), required=True, help="The page; - is stdout."
)
@click.option("--assets", metavar="DIR", type=click.Path(), help="Write each picture as SVG and PNG, too.")
@click.option(
    "--map",
    "how",
    metavar="HOW",
    default="pca",
    show_default=True,
    help="How rows become points: pca, tsne or umap.",
)
@common
def report(ctx: Context, ref: str, output: str, assets: str | None, **given: Any) -> None:
    """Write one self-contained HTML page about REF: may it ship, what changed, every metric, pictures.

    Nothing is measured: the page shows what is recorded, and says which command brings what is not.

    Example: embreg report words@4 --baseline words@3 -o report.html --assets pictures
    """
    from .evals.reporting import report

    if output == "-" and ctx.json:
        raise UsageError("--json and -o - both write to stdout", hint="name a file: -o FILE")
    with ctx.open() as registry, ctx.progress("reporting") as progress:
        found = report(registry, ref, config=ctx.config(), progress=progress, **given)
    text, document = _write_report(found, output, assets)
    if output == "-":
        ctx.show({}, lambda: Verbatim(text))
    else:
        ctx.show(document, lambda: f"wrote {document['path']}, {document['bytes'] / 1e6:.1f} MB")


def _write_report(report: Report, output: str, assets: str | None) -> tuple[str, dict[str, Any]]:
    """Write the page and its pictures, but not to stdout; return the page, and what was written."""
    from pathlib import Path

    from .evals.report import files
    from .evals.runner import discover
    from .evals.saving import save

    done = files.rendered(report, discover())
    pictures = files.write_assets(done.charts, Path(assets)) if assets else []
    if output != "-":
        save(Path(output), done.text.encode())
    return done.text, done.document(output, pictures)


def _write(path: str, text: str, mode: str = "w") -> None:
    from pathlib import Path

    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise StorageError(f"cannot write {printable(path)}: {exc.strerror}") from exc


@main.group(invoke_without_command=True)
@click.option("--from", "origin", metavar="PACKAGE", help="Only those that it brings; embreg's own: embreg.")
@click.option("--markdown", is_flag=True, help="Print the whole reference as one Markdown document.")
@common
def suites(ctx: Context, origin: str | None, markdown: bool) -> None:
    """List the suites: what each answers, what it needs, and which package brings it.

    Example: embreg suites; embreg suites show anisotropy; embreg suites --markdown > metrics.md
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    from .evals.discovery import discovered
    from .evals.report import manual, reference

    found = discovered().only(origin)
    if markdown:
        if ctx.json:
            raise UsageError("--markdown and --json: which of the two?")
        text = manual.manual(found.suites, found.origins)
        ctx.show({}, lambda: Verbatim(text.removesuffix("\n")))
        return
    ctx.show(reference.overview_document(found), lambda: reference.overview(found))


@suites.command("show")
@click.argument("name", metavar="SUITE[.METRIC]", type=Known("topic"))
@common
def suites_show(ctx: Context, name: str) -> None:
    """Show all that a suite says of itself: sources, needs, parameters, and its metrics with their formulas.

    Example: embreg suites show anisotropy; embreg suites show drift.cka
    """
    from .evals.discovery import discovered
    from .evals.reference import looked_up
    from .evals.report import reference

    found = discovered()
    suite, metric = looked_up(name, found)
    if metric is not None:
        ctx.show(reference.metric_document(metric, suite), lambda: reference.metric(metric, suite))
    else:
        ctx.show(reference.suite_document(suite, found), lambda: reference.suite(suite, found))


@main.command()
@click.argument("ref", type=REF)
@common
def delete(ctx: Context, ref: str) -> None:
    """Hide REF, unless something needs it; its bytes go with the next gc.

    Example: embreg delete words@2
    """
    from .evals.report import documents

    with ctx.open() as registry:
        version = registry.delete(ref)
    ctx.show({"deleted": version.ref} | documents.version(version), lambda: f"deleted {version.ref}")


@main.command()
@click.argument("name", type=NAME)
@click.option("--keep", metavar="N", type=int, required=True, help="How many of the newest stay.")
@click.option(
    "--keep-aliased",
    is_flag=True,
    help="Of the older keep only what an alias, index or derived version needs: runs do not hold them back.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common
def prune(ctx: Context, name: str, keep: int, keep_aliased: bool, dry_run: bool) -> None:
    """Delete all but the newest versions of NAME; what an alias, index, run or derived version needs stays.

    Example: embreg prune words --keep 5 --keep-aliased --dry-run
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("pruning"):
        done = registry.prune(name, keep=keep, keep_aliased=keep_aliased, dry_run=dry_run)
    ctx.show(documents.pruned(done), lambda: listing.pruned(done))


@main.command()
@common
def du(ctx: Context) -> None:
    """Show the disk space of every embedding.

    Example: embreg du
    """
    from .evals.report import documents, listing

    with ctx.open() as registry:
        found = registry.du()
    ctx.show(documents.usage(found), lambda: listing.usage(found))


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--grace", metavar="SECONDS", type=click.FloatRange(0), help="Spare what is younger [default: 3600]."
)
@common
def gc(ctx: Context, dry_run: bool, grace: float | None) -> None:
    """Remove blobs that nothing refers to.

    Example: embreg gc --dry-run
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("sweeping"):
        done = registry.gc(dry_run=dry_run, grace_s=grace)
    ctx.show(documents.swept(done), lambda: listing.swept(done))


@main.command()
@click.argument("ref", type=REF, required=False)
@common
def verify(ctx: Context, ref: str | None) -> int:
    """Hash everything that is stored (or REF alone); exit with 1 if something is damaged.

    Example: embreg verify words@production
    """
    from .evals.report import documents, listing

    with ctx.open() as registry, ctx.progress("verifying") as progress:
        found = registry.verify(ref, progress=progress)
    ctx.show(documents.verified(found), lambda: listing.verified(found))
    return 0 if found.clean else 1


@main.command()
@click.argument("path", metavar="DIR", type=click.Path())
@click.option("--title", metavar="T", help="Of the site [default: by the registry's folder].")
@click.option("--force", is_flag=True, help="Write into a DIR that holds other files; these stay.")
@common
def site(ctx: Context, path: str, title: str | None, force: bool) -> None:
    """Write the registry as static pages into DIR: for any file server, or to open from the disk.

    Only what changed since the last time is written.

    Example: embreg site public; embreg site public --title "Search embeddings"
    """
    from dataclasses import asdict

    from .evals.site.site import Site
    from .evals.site.writing import processes, write_site

    config = ctx.config()
    with ctx.open() as registry, ctx.progress("writing") as progress:
        pages = Site(registry, title=title, checks=config.gates if config else ())
        done = write_site(pages, path, force=force, processes=processes(), progress=progress)
    ctx.show(asdict(done), lambda: done.told())


@main.command()
@click.option(
    "--host",
    metavar="H",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; on any other address than this machine's own, for a token only.",
)
@click.option(
    "--port",
    metavar="P",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes a free one.",
)
@click.option("--token", metavar="T", help="What readers must know [default: a new one where it is needed].")
@click.option("--open", "opens", is_flag=True, help="Show it in the browser.")
@DEVICE
@common
def ui(ctx: Context, host: str, port: int, token: str | None, opens: bool) -> None:
    """Serve the registry's pages live and read-only, with neighbours and analogies, until Ctrl-C.

    Example: embreg ui --open; embreg ui --port 0
    """
    from .evals.ui.serving import Address, serve, show

    def listening(at: Address) -> None:
        ctx.show(at.to_dict(), lambda: Verbatim(f"{at.url}\nCtrl-C ends it"))
        if opens:
            show(at.url)

    serve(ctx.root(), host=host, port=port, token=token, config=ctx.config(), listening=listening)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common
def completion(ctx: Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, references, names and metrics.

    For good: eval "$(embreg completion bash)" in ~/.bashrc, the same with zsh in ~/.zshrc; for fish:
    embreg completion fish > ~/.config/fish/completions/embreg.fish

    Example: embreg completion bash
    """
    from .evals.completion import script

    text = script(main, shell)
    ctx.show({"shell": shell, "script": text}, lambda: Verbatim(text))


@main.group()
def db() -> None:
    """The schema of the registry's database."""


@db.command("current")
@common
def db_current(ctx: Context) -> None:
    """Show the schema revision of the registry, and the one this package works with.

    Example: embreg db current
    """
    from .registry.database import HEAD
    from .registry.registry import Registry

    found = Registry.at(ctx.root()).revision()
    ctx.show({"revision": found, "head": HEAD}, lambda: f"registry {found or 'none'}, package {HEAD}")


@db.command("upgrade")
@common
def db_upgrade(ctx: Context) -> None:
    """Bring the schema of the registry to this package's, after a backup.

    Example: embreg db upgrade
    """
    from .registry.registry import Registry

    before, after, backup = Registry.at(ctx.root(), command=ctx.command_line).upgrade()
    saved = str(backup) if backup else None
    document = {"from": before, "revision": after, "backup": saved}
    ctx.show(document, lambda: f"schema {before} -> {after}{f', backup at {saved}' if saved else ''}")


if __name__ == "__main__":
    main()
