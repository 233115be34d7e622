"""Text for a terminal: what was measured and judged; signs and words besides colours.

Everything that came from a user is printed through ``printable`` and never read as markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from ...registry.errors import printable
from ..baselines import PRODUCTION
from ..evidence import Missing, comparable
from ..figures import interval, named, number
from . import SIGNS, headline, remarkable
from .arrows import legend, moved
from .tables import Cell, Table, table

if TYPE_CHECKING:
    from ...registry.types import MeasureRecord, RunRecord
    from ..gate import CheckResult, Verdict
    from ..suite import Metric, Suite

__all__ = ["runs", "table", "verdict"]

_STYLES = {"passed": "green", "failed": "bold red", "warned": "yellow", "skipped": "dim"}
_ORDER = ("failed", "warned", "skipped", "passed")
_WEIGHTS = {
    "failed": "each of these keeps it from shipping",
    "warned": "worth a look, none keeps it from shipping",
    "skipped": "not judged",
}
#: So many commands are named after a verdict, at most.
_MOST_STEPS = 4


def verdict(given: Verdict, *, suites: Mapping[str, Suite] | None = None) -> RenderableType:
    """Return a verdict: the answer, the reasons by their weight, the numbers, and what to do next.

    Args:
        given: the verdict.
        suites: by name, for the directions of their metrics; without them changes bear no arrows.
    """
    word = "passed" if given.passed else "failed"
    answer = "It may ship." if given.passed else "Do not ship it."
    head = _signed(word, f"{headline(given)}. {answer}")
    if not given.checks:
        return Group(head, Text(), *_next(given, suites or {}))
    return Group(
        head,
        *_reasons(given),
        Text(),
        _checks(given, suites or {}),
        *legend(given.baseline if any(c.baseline is not None for c in given.checks) else None),
        Text(),
        *_next(given, suites or {}),
    )


def runs(
    given: Sequence[RunRecord],
    *,
    suites: Mapping[str, Suite],
    baseline: Sequence[RunRecord] = (),
    against: str | None = None,
) -> RenderableType:
    """Return what suites measured, one after the other; skipped ones with their reason at the end.

    Args:
        given: the runs.
        suites: by name, for the units; a suite that is not there any more is shown without.
        baseline: what was recorded of the version to compare with; comparable values are set beside.
        against: that version.
    """
    done = [run for run in given if run.status == "done"]
    others = [run for run in given if run.status != "done"]
    before = [_before(run, baseline) if against else None for run in done]
    parts = [part for run, old in zip(done, before, strict=True)
             for part in _run(run, suites.get(run.suite), old, against)]  # fmt: skip
    compared = any(old is not None and not isinstance(old, Missing) for old in before)
    return Group(*parts, *legend(against if compared else None), *map(_not_done, others))


# -- the gate -----------------------------------------------------------------------------------------


def _reasons(given: Verdict) -> Iterator[Text]:
    """Yield the checks that did not pass, with their reasons, those of one weight together."""
    for outcome, checks in groupby(remarkable(given), key=lambda check: str(check.outcome)):
        found = list(checks)
        yield Text()
        yield Text(f"{len(found)} {outcome}: {_WEIGHTS[outcome]}", style="bold")
        for check in found:
            yield _signed(outcome, f"{_title(check)}: {_line(check.reason)}")


def _checks(given: Verdict, suites: Mapping[str, Suite]) -> Table:
    ordered = sorted(given.checks, key=lambda check: _ORDER.index(check.outcome))
    columns: tuple[str, ...] = ("=", "check", ".value", ">interval?", ".baseline", ".change", "", "bound")
    rows = [_check_row(check, suites) for check in ordered]
    if all(check.baseline is None for check in ordered):
        columns, rows = columns[:4] + columns[7:], [row[:4] + row[7:] for row in rows]
    return table(columns, rows)


def _check_row(check: CheckResult, suites: Mapping[str, Suite]) -> list[Cell]:
    told: tuple[str, Text] = ("", Text())
    if check.value is not None and check.baseline is not None:
        told = moved(check.value, check.baseline, _metric(check, suites))
    return [
        Text(SIGNS[check.outcome], style=_STYLES[check.outcome]),
        _title(check),
        None if check.value is None else number(check.value, check.unit),
        interval(check.low, check.high, check.unit),
        None if check.baseline is None else number(check.baseline, check.unit),
        *told,
        check.bound,
    ]


def _metric(check: CheckResult, suites: Mapping[str, Suite]) -> Metric | None:
    suite, _, name = check.metric.partition(".")
    return suites[suite].metric(name) if suite in suites else None


def _next(given: Verdict, suites: Mapping[str, Suite]) -> list[Text]:
    """Return the commands that follow: how to let it ship, or how to find out why not."""
    steps = [Text("next:", style="bold")]
    for command, why in list(_steps(given, suites))[:_MOST_STEPS]:
        steps.append(Text.assemble(f"  {printable(command, 400)}", (f"  # {why}", "dim")))
    return steps


def _steps(given: Verdict, suites: Mapping[str, Suite]) -> Iterator[tuple[str, str]]:
    if given.passed:
        first = f", where it names {given.baseline} now" if given.baseline else ""
        yield f"embreg promote {given.ref} {PRODUCTION}", f"let '{PRODUCTION}' name it{first}"
        return
    if not any(check.value is not None for check in given.checks):
        yield f"embreg eval {given.ref}", "what can be measured of it, and what is missing"
        return
    pair = f"{given.baseline} {given.ref}" if given.baseline else given.ref
    refused = [check for check in given.checks if check.outcome == "failed"]
    failed = [check for check in refused if check.value is not None]
    if given.baseline is None and any("not compared" in c.reason or c.value is None for c in refused):
        name = given.ref.rpartition("@")[0]
        yield f"embreg gate {given.ref} --baseline REF", "some checks compare with another version"
        yield f"embreg alias set {name} {PRODUCTION} {given.ref}", "if it is the first to go live"
    topics = [(c.metric.partition(".")[0], c.labels.get("dataset")) for c in failed if _itemised(c, suites)]
    for suite, dataset in list(dict.fromkeys(topics))[:2]:
        on = f" --dataset {dataset}" if dataset else ""
        yield f"embreg items {pair} --suite {suite}{on}", "the items that are worst off"
    if given.baseline:
        yield f"embreg compare {pair}", "every metric side by side"
    against = f" --baseline {given.baseline}" if given.baseline else ""
    yield f"embreg report {given.ref}{against} -o report.html", "all of it as one page"


def _itemised(check: CheckResult, suites: Mapping[str, Suite]) -> bool:
    metric = _metric(check, suites)
    return metric is not None and (metric.item is not None or metric.statistic is not None)


def _title(check: CheckResult) -> str:
    labels = f" ({named(check.labels)})" if check.labels else ""
    return printable(check.metric) + labels


# -- runs ---------------------------------------------------------------------------------------------


def _run(
    run: RunRecord, suite: Suite | None, before: RunRecord | Missing | None, against: str | None
) -> list[RenderableType]:
    about = [f"on {printable(run.dataset)}"] if run.dataset else []
    about += [f"against {printable(run.baseline)}"] if run.baseline else []
    about += ["cached" if run.cached else f"{run.duration_s:.2f} s"]
    about += [f"#{run.id}"] if run.id is not None else []
    head = Text.assemble((printable(run.suite), "bold"), f" {', '.join(about)}")
    if run.verdict:
        head.append(f": {printable(run.verdict)}", style="bold")
    lines = [Text(f"– {_absent(entry)}", style="dim") for entry in run.absent]
    lines += [Text(f"  {_line(note)}", style="dim") for note in run.notes]
    if isinstance(before, Missing):
        lines.append(
            Text(f"– no change from {printable(against or '')}: {_line(before.reason)}", style="dim")
        )
    return [head, _numbers(run, suite, before), *lines, Text()]


def _before(run: RunRecord, baseline: Sequence[RunRecord]) -> RunRecord | Missing | None:
    """Return the run of the version to compare with; None where the suite compares by itself."""
    return None if run.baseline is not None else comparable(run, baseline)


def _numbers(run: RunRecord, suite: Suite | None, before: RunRecord | Missing | None) -> Table:
    rows = [_measure_row(measure, suite) for measure in run.measures]
    if before is None or isinstance(before, Missing):
        return table(("metric", "labels", ".value", ">interval", ">n"), rows)
    old = {(m.metric, *sorted(m.labels.items())): m.value for m in before.measures}
    for row, measure in zip(rows, run.measures, strict=True):
        value = old.get((measure.metric, *sorted(measure.labels.items())))
        metric = suite.metric(measure.metric) if suite else None
        told = ("", Text()) if value is None else moved(measure.value, value, metric)
        row[4:4] = [None if value is None else number(value, metric.unit if metric else ""), *told]
    return table(("metric", "labels", ".value", ">interval?", ".before", ".change", "", ">n"), rows)


def _measure_row(measure: MeasureRecord, suite: Suite | None) -> list[Cell]:
    metric = suite.metric(measure.metric) if suite else None
    unit = metric.unit if metric else ""
    return [
        measure.metric,
        named(measure.labels),
        number(measure.value, unit),
        interval(measure.low, measure.high, unit),
        measure.n,
    ]


def _absent(entry: Mapping[str, object]) -> str:
    labels = entry.get("labels")
    told = f" ({named(labels)})" if isinstance(labels, Mapping) and labels else ""
    return f"{printable(str(entry['metric']))}{told}: {_line(str(entry['reason']))}"


def _not_done(run: RunRecord) -> Text:
    failed = run.status == "error"
    told = f"{printable(run.suite)} {'failed' if failed else 'skipped'}: {_line(run.reason)}"
    return _signed("failed" if failed else "skipped", told)


def _signed(outcome: str, text: str) -> Text:
    return Text.assemble((f"{SIGNS[outcome]} ", _STYLES[outcome]), text)


def _line(text: str) -> str:
    return printable(text, 500)
