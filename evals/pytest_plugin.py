"""The gate as pytest items: ``pytest --embreg docs@candidate --embreg-baseline docs@production``.

Each check of ``embreg.toml`` is an item. All are measured and judged at once, when the first of them runs;
under pytest-xdist the controller does so before there are workers, and hands them the results. Where
``--embreg`` is not given, nothing of embreg is loaded but this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .gate import CheckResult, Verdict
    from .gating import Asked

#: What is handed to a worker: a name, the labels and the results of each check, by reference.
Results = dict[str, list[dict[str, Any]]]
_KEY = pytest.StashKey["Gates"]()
_WARNING = "embreg_warning"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("embreg", "embreg: the gate of embedding versions")
    group.addoption(
        "--embreg", action="append", metavar="REF", help="Hold a version against the checks of embreg.toml."
    )
    group.addoption("--embreg-baseline", metavar="REF", help="What it is compared with [NAME@production].")
    group.addoption("--embreg-config", metavar="FILE", help="The embreg.toml [the nearest one upwards].")
    group.addoption("--embreg-registry", metavar="DIR", help="The registry [$EMBREG_REGISTRY, embreg.toml].")


def pytest_configure(config: pytest.Config) -> None:
    """Find the versions and the checks; what is wrong with them is a wrong command line."""
    refs = config.getoption("--embreg")
    if not refs:
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args[:] = []
    if len(refs) > 1 and config.getoption("--embreg-baseline"):
        raise pytest.UsageError("--embreg-baseline goes with one --embreg")
    handed = getattr(config, "workerinput", {}).get("embreg")
    gates = Gates(config, list(dict.fromkeys(refs)), handed)
    config.stash[_KEY] = gates
    if handed is None:
        gates.find()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the checks to what was collected."""
    gates = config.stash.get(_KEY, None)
    if gates is None:
        return
    collector = GateCollector.from_parent(session, name="embreg", nodeid="embreg", gates=gates)
    report = config.hook.pytest_make_collect_report(collector=collector)
    config.hook.pytest_collectreport(report=report)
    items += report.result


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Measure before there are workers, and hand each of them the results."""
    gates = node.config.stash.get(_KEY, None)
    if gates is None:
        return
    from ..registry.errors import EmbregError

    try:
        node.workerinput["embreg"] = gates.results
    except EmbregError as exc:
        raise pytest.UsageError(f"embreg: {exc}") from exc


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the warnings of the gate: they fail nothing, and would not be seen."""
    passed = terminalreporter.stats.get("passed", [])
    told = [(report.nodeid, value) for report in passed for name, value in report.user_properties
            if name == _WARNING]  # fmt: skip
    if told:
        terminalreporter.section("embreg warnings")
        for nodeid, value in told:
            terminalreporter.write_line(f"{nodeid}: {value}")


class Gates:
    """What was asked for, and, once it was measured, what the gate says of it."""

    def __init__(self, config: pytest.Config, refs: Sequence[str], handed: Results | None) -> None:
        self.config, self.refs, self.handed = config, refs, handed
        self.asked: dict[str, Asked] = {}

    def find(self) -> None:
        """Find every version, its baseline and the checks.

        Raises:
            pytest.UsageError: one of them is not there, or cannot be.
        """
        from ..registry.errors import EmbregError
        from .config import config_in_force
        from .gating import ask

        try:
            settings = config_in_force(self.config.getoption("--embreg-config"))
            with self.registry() as registry:
                baseline = self.config.getoption("--embreg-baseline")
                self.asked = {ref: ask(registry, ref, settings, baseline=baseline) for ref in self.refs}
        except EmbregError as exc:
            raise pytest.UsageError(f"embreg: {exc}") from exc

    def registry(self) -> Any:
        """Open the registry."""
        from ..registry.registry import Registry
        from .config import registry_in_force

        asked, config = (self.config.getoption(f"--embreg-{name}") for name in ("registry", "config"))
        return Registry.open(registry_in_force(asked, config), command="pytest --embreg")

    def names(self, ref: str) -> list[str]:
        """Return a name for each check of a version, no two the same."""
        if self.handed is not None:
            return [check["name"] for check in self.handed[ref]]
        found: dict[str, int] = {}
        names = []
        for check in self.asked[ref].config.gates:
            name = _name(check.metric, check.labels)
            found[name] = found.get(name, 0) + 1
            names.append(name if found[name] == 1 else f"{name}#{found[name]}")
        return names

    @property
    def results(self) -> Results:
        """The results of each check, by reference; measured when they are first asked for."""
        if self.handed is None:
            self.handed = {ref: self.judged(ref) for ref in self.refs}
        return self.handed

    def judged(self, ref: str) -> list[dict[str, Any]]:
        """Hold a version against its checks."""
        from .gating import gate

        known = self.asked[ref]
        base = known.baseline.ref if known.baseline else None
        with self.registry() as registry:
            done = gate(registry, ref, config=known.config, baseline=base, no_baseline=base is None)
        return [{"name": name, **_outcome(done.verdict, nth)} for nth, name in enumerate(self.names(ref))]


def _name(metric: str, labels: Mapping[str, str]) -> str:
    from ..registry.errors import printable

    told = ",".join(f"{key}={value}" for key, value in labels.items())
    # A pair of colons would begin another part of the id.
    return printable(f"{metric}[{told}]" if told else metric, 200).replace("::", ":")


def _outcome(verdict: Verdict, nth: int) -> dict[str, Any]:
    """Return what became of one check, on all datasets and indexes that it holds for, as plain values."""
    own = [check for check in verdict.checks if check.nth == nth]
    by: dict[str, list[CheckResult]] = {}
    for check in own:
        by.setdefault(str(check.outcome), []).append(check)
    if not any(str(check.outcome) != "skipped" for check in verdict.checks):
        return {"outcome": "failed", "reason": f"{_reason(own)}; nothing was judged"}
    word = next(word for word in ("failed", "warned", "passed", "skipped") if word in by)
    return {"outcome": word, "reason": _reason(by[word])}


def _reason(checks: Sequence[CheckResult]) -> str:
    from ..registry.errors import printable

    return "\n".join(c.told if len(checks) > 1 else printable(c.reason, 1000) for c in checks)


class GateCollector(pytest.Collector):
    """All checks of all versions that were asked for."""

    def __init__(self, *, gates: Gates, **rest: Any) -> None:
        super().__init__(**rest)
        self.gates = gates

    def collect(self) -> Iterator[GateItem]:
        """Yield an item for each check."""
        for ref in self.gates.refs:
            for nth, name in enumerate(self.gates.names(ref)):
                nodeid = f"embreg::{ref}::{name}"
                yield GateItem.from_parent(self, name=name, nodeid=nodeid, ref=ref, nth=nth)


class GateItem(pytest.Item):
    """One check of one version."""

    def __init__(self, *, ref: str, nth: int, parent: GateCollector, **rest: Any) -> None:
        super().__init__(parent=parent, **rest)
        self.ref, self.nth, self.gates = ref, nth, parent.gates

    def runtest(self) -> None:
        """Fail, skip or warn as the gate did."""
        from ..registry.errors import EmbregError

        try:
            found = self.gates.results[self.ref][self.nth]
        except EmbregError as exc:
            pytest.fail(f"embreg: {exc}", pytrace=False)
        if found["outcome"] == "failed":
            pytest.fail(found["reason"], pytrace=False)
        if found["outcome"] == "skipped":
            pytest.skip(found["reason"])
        if found["outcome"] == "warned":
            self.user_properties.append((_WARNING, found["reason"]))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the item is from."""
        return self.path, None, f"embreg {self.ref}: {self.name}"
