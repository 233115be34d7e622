"""A report as files: the page, its pictures as SVG and PNG. What was there is replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..gate import Verdict
from ..saving import refused, save
from .page import contents, page, parts
from .pictures import pictures

if TYPE_CHECKING:
    from ..reporting import Report
    from ..suite import Suite
    from .charts.chart import Chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A report as it is written.

    Attributes:
        text: the page.
        charts: its pictures.
        sections: their anchors, in order.
    """

    report: Report
    text: str
    charts: tuple[Chart, ...]
    sections: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Size of the page."""
        return len(self.text.encode())

    def document(self, path: str, assets: Sequence[Path] = ()) -> dict[str, Any]:
        """Return what was written, as plain JSON values."""
        verdict = self.report.verdict if isinstance(self.report.verdict, Verdict) else None
        return {
            "path": path,
            "bytes": self.nbytes,
            "ref": self.report.version.ref,
            "baseline": self.report.baseline.ref if self.report.baseline else None,
            "passed": verdict.passed if verdict else None,
            "sections": list(self.sections),
            "charts": [{"name": c.name, "kind": c.kind.name, "title": c.title} for c in self.charts],
            "assets": [str(path) for path in assets],
        }


def rendered(report: Report, suites: Mapping[str, Suite]) -> Rendered:
    """Return a report as a page, with its pictures."""
    drawn = pictures(report, suites)
    named = contents(report, parts(report, drawn, suites), drawn)
    return Rendered(
        report=report,
        text=page(report, drawn, suites),
        charts=drawn.every,
        sections=tuple(anchor for anchor, _, _ in named),
    )


def write_assets(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write each picture as ``NAME.svg`` and ``NAME.png``; return the files.

    Raises:
        StorageError: the folder cannot be made, or a file cannot be written.
    """
    from .charts.drawn import png, svg

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise refused(folder, exc) from exc
    written = []
    for chart in charts:
        for suffix, data in (("svg", svg(chart).encode()), ("png", png(chart))):
            written.append(folder / f"{chart.name}.{suffix}")
            save(written[-1], data)
    return written
