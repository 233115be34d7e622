"""One self-contained HTML page about a version: opens from disk, asks nobody for anything, prints.

Its two scripts only draw: the page's own policy names them by their hash and forbids all others. Without them
everything but the pictures is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...registry.diff import ANY_TYPE, repair
from ...registry.errors import printable
from ...registry.types import Repair
from ..figures import number
from ..gate import Verdict
from ..recorded import Lack
from . import headline, remarkable
from .flips import flips
from .html import environment, space
from .rows import Section, section

if TYPE_CHECKING:
    from ...registry.types import RunRecord
    from ..reporting import Report
    from ..suite import Suite
    from .charts.chart import Chart
    from .pictures import Pictures
    from .rows import Row

_SLUG = re.compile(r"[^a-z0-9]+")
_MOST_IN_AN_ANCHOR = 40
_NEEDED = {Repair.ADD: "its new rows", Repair.UPDATE: "an update", Repair.REBUILD: "a rebuild"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A suite's part of the page: its rows, where it stands, and its pictures."""

    section: Section
    anchor: str
    charts: tuple[Chart, ...]

    @property
    def caption(self) -> str:
        """Of its tables."""
        run = self.section.run
        told = f", {self.section.compared}" if self.section.compared else ""
        return f"{run.version}{told}. Suite version {run.suite_version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """The measure that says most of a suite."""

    title: str
    anchor: str
    verdict: str | None
    row: Row


def page(report: Report, pictures: Pictures, suites: Mapping[str, Suite]) -> str:
    """Return the page.

    Args:
        report: what is known.
        pictures: of the report.
        suites: by name, for units, ranges and directions; runs of others are shown without.
    """
    from markupsafe import Markup

    from .charts import drawn

    of_suites = parts(report, pictures, suites)
    against = report.baseline.ref if report.baseline else None
    scripts = [drawn.library(), drawn.drawing()] if pictures.every else []
    judged = report.verdict if isinstance(report.verdict, Verdict) else None
    moved = [] if isinstance(report.movers, Lack) else list(report.movers)
    return str(
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            title=_title(report),
            facts=_facts(report),
            release=__version__,
            made=f"{report.made_at:%Y-%m-%d %H:%M} UTC",
            policy=_policy([drawn.integrity(script) for script in scripts]),
            scripts=[Markup(script) for script in scripts],  # noqa: S704 - our own, and they end where they end
            contents=list(contents(report, of_suites, pictures)),
            pictured=bool(scripts),
            judged=judged is not None,
            headline=headline(judged) if judged else "",
            reasons=remarkable(judged) if judged else [],
            docs=_docs(judged, suites) if judged else {},
            judged_when=_judged_when(report),
            against=against,
            leading=[
                Leading(
                    title=p.section.title,
                    anchor=p.anchor,
                    verdict=p.section.run.verdict,
                    row=p.section.glance[0],
                )
                for p in of_suites
                if p.section.glance
            ],
            compared=_compared(report),
            diff=None if isinstance(report.diff, Lack) else report.diff,
            repair=_repair(report),
            parts_of_suites=of_suites,
            skipped=[run for run in report.runs if run.status == "skipped"],
            movers=None if isinstance(report.movers, Lack) else moved,
            flips=[flips(found) for found in report.flipped],
            map_charts=pictures.of_rows,
            row_lacks=[given for given in (report.map, report.norms) if isinstance(given, Lack)],
            versions=[v for v in (report.version, report.baseline) if v is not None],
            run_rows=[(run, _params(run)) for run in report.runs if run.status == "done"],
            digests=_digests(report),
            command=_command(report, f"embreg report {report.version.ref}") + " -o report.html",
            measuring=_command(report, f"embreg eval {report.version.ref}"),
            kinds=pictures.kinds,
        )
    )


def contents(
    report: Report, of_suites: Sequence[Part], pictures: Pictures
) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Yield the sections of the page: anchor, name, and those below."""
    yield "verdict", "May it ship?", []
    yield "changed", "What changed", []
    yield "indexes", "Indexes", []
    if isinstance(report.verdict, Verdict) and report.verdict.checks:
        yield "checks", "Checks", []
    yield "metrics", "Metrics", [(part.anchor, part.section.title) for part in of_suites]
    if report.baseline is not None:
        yield "moved", "Rows that moved most", []
        yield "flipped", "What flipped", []
    yield "rows", "The rows", []
    yield "provenance", "Provenance", []
    if pictures.kinds:
        yield "reading", "How to read this page", []


def parts(report: Report, pictures: Pictures, suites: Mapping[str, Suite]) -> list[Part]:
    """Return the part of each suite that was run."""
    found: list[Part] = []
    for run, charts in zip(report.runs, pictures.of_runs, strict=True):
        if run.status != "done":
            continue
        own = section(run, report.baseline_runs, suites.get(run.suite))
        slug = _SLUG.sub("-", own.title.lower())[:_MOST_IN_AN_ANCHOR].strip("-") or "suite"
        taken = sum(part.anchor.startswith(f"suite-{slug}") for part in found)
        anchor = f"suite-{slug}-{taken + 1}" if taken else f"suite-{slug}"
        found.append(Part(section=own, anchor=anchor, charts=charts))
    return found


def _title(report: Report) -> str:
    against = f" against {report.baseline.ref}" if report.baseline else ""
    return f"{report.version.ref}{against}"


def _facts(report: Report) -> list[str]:
    version = report.version
    told = [
        f"{version.rows:,} rows",
        space(version.space),
        f"registered {version.created_at:%Y-%m-%d %H:%M} UTC",
    ]
    return [f"“{printable(version.message)}”", *told] if version.message else told


def _policy(hashes: Sequence[str]) -> str:
    scripts = f"; script-src {' '.join(hashes)}" if hashes else ""
    own = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return f"{own}{scripts}; base-uri 'none'; form-action 'none'"


def _docs(verdict: Verdict, suites: Mapping[str, Suite]) -> dict[str, str]:
    """Return what each metric of the checks is, in a sentence."""
    found = {}
    for check in verdict.checks:
        suite, _, name = check.metric.partition(".")
        metric = suites[suite].metric(name) if suite in suites else None
        found[check.metric] = metric.doc if metric else ""
    return found


def _judged_when(report: Report) -> str:
    if report.record is None or report.record.created_at is None:
        return "Judged by the checks of embreg.toml as this page was written."
    at = f"Judged {report.record.created_at:%Y-%m-%d %H:%M} UTC"
    if report.outdated:
        again = _command(report, f"embreg gate {report.version.ref}")
        return f"{at}, by an embreg.toml that has changed since: '{again}' judges again."
    return f"{at} by the checks of embreg.toml."


def _compared(report: Report) -> str:
    if report.baseline is None:
        return f"{report.version.ref} is held against no other version: {report.why}."
    return f"{report.version.ref} is held against {report.baseline.ref} ({report.why})."


def _repair(report: Report) -> str:
    """Return what an index of the baseline would need to serve the version."""
    if isinstance(report.diff, Lack) or report.baseline is None:
        return ""
    action, why = repair(report.diff, ANY_TYPE)
    serving = f"To serve {report.diff.new}, an index of {report.diff.old}"
    if action is Repair.NONE:
        return f"{serving} needs nothing."
    return f"{serving} needs {_NEEDED[action]}: {why}."


def _command(report: Report, command: str) -> str:
    if report.baseline is not None:
        return f"{command} --baseline {report.baseline.ref}"
    return command if command.startswith("embreg eval") else f"{command} --no-baseline"


def _params(run: RunRecord) -> str:
    texts = [f"{key} = {_plain(value)}" for key, value in run.params.items()]
    return printable(", ".join(texts), 400) or "none"


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)


def _digests(report: Report) -> list[tuple[str, str]]:
    """Return what the page rests on, each once: versions and datasets with their digests."""
    found: dict[tuple[str, str], None] = {}
    for version in (report.version, report.baseline):
        if version is not None:
            found[version.ref, version.digest] = None
            found[f"content of {version.ref}", version.content_digest] = None
    for run in report.runs:
        if run.baseline and run.baseline_digest:
            found[run.baseline, run.baseline_digest] = None
        if run.dataset and run.dataset_digest:
            found[f"dataset {run.dataset}", run.dataset_digest] = None
    if report.record is not None:
        found["embreg.toml of the verdict", report.record.config_digest] = None
    return list(found)
