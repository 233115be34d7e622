"""The JSON Schema of ``embreg.toml``: what an editor completes, explains and underlines.

It is built from the suites and from what ``config`` reads, so that it says what they do; where TOML leaves a
choice (``k = "10"``), it knows the plain spelling only. Draft 7 is the latest that taplo (Even Better TOML)
reads. It completes nothing beside an ``allOf``, so what a bound asks of its metric stands in
``dependencies``, where an error is shown at the bound.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .config import ALPHA, BOUNDS, KEYS, OF_REGISTRY, ON_MISSING, SEVERITIES, Check, Tolerance, misfit
from .reference import attributes, direction, span, tested
from .suite import Need

if TYPE_CHECKING:
    from .suite import Metric, Suite

Schema = dict[str, Any]
#: The file in the package that holds the schema of embreg's own suites.
FILE = "embreg.schema.json"
_Span = tuple[float | None, float | None]
_NUMBER: Schema = {"type": "number"}
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}
_SPECIAL = re.compile(r"[\\^$.|?*+()\[\]{}/]")


def text(suites: Mapping[str, Suite]) -> str:
    """Return the schema of ``config_schema`` as the text of a JSON file."""
    return json.dumps(config_schema(suites), ensure_ascii=False, indent=1) + "\n"


def config_schema(suites: Mapping[str, Suite]) -> Schema:
    """Return the schema of an ``embreg.toml`` that may name these suites.

    Args:
        suites: by name.
    """
    url = {"type": "string", "minLength": 1, "description": "A path, from the folder of this file, or a URL."}
    tables = {
        "registry": _table("Where the registry is.", dict.fromkeys(OF_REGISTRY, url)),
        "suites": _table("Parameters of suites.", {name: _suite(suite) for name, suite in suites.items()}),
        "gates": {"type": "array", "description": "What a version must keep to.", "items": _check(suites)},
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "embreg.toml",
        **_table("Where the registry is, the parameters of suites, and the checks of the gate.", tables),
    }


def _table(description: str, properties: Mapping[str, Any], **more: Any) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        "additionalProperties": False,
        **more,
    }


def _suite(suite: Suite) -> Schema:
    defaults, docs = suite.params(), attributes(suite.params.__doc__ or "")
    names = [field.name for field in fields(suite.params)]
    given = {name: _parameter(getattr(defaults, name), docs.get(name, "")) for name in names}
    return _table(_plain(suite.doc), given)


def _parameter(default: Any, doc: str) -> Schema:
    if isinstance(default, tuple):
        kind: Schema = {"type": "array", "items": {"type": _TYPES[type(default[0])] if default else "string"}}
        default = list(default)
    else:
        kind = {"type": _TYPES[type(default)]}
    return kind | {"description": _plain(doc), "default": default}


def _check(suites: Mapping[str, Suite]) -> Schema:
    docs = attributes(Check.__doc__ or "")
    names = [name for pair in _metrics(suites) for name in _metric(*pair)]
    own: dict[str, Schema] = {
        "metric": {"type": "string", "anyOf": names},
        "labels": {"type": "object", "additionalProperties": {"type": ["string", "integer"]}},
        "min": _NUMBER,
        "max": _NUMBER,
        "max_drop": _tolerance(),
        "max_rise": _tolerance(),
        "alpha": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": ALPHA},
        "severity": {"enum": list(SEVERITIES), "default": SEVERITIES[0]},
        "on_missing": {"enum": list(ON_MISSING), "default": ON_MISSING[0]},
    }
    properties = {key: {"description": _plain(docs[key]), **own[key]} for key in KEYS}
    return _table(
        "A check: a metric, and one bound at least.",
        properties,
        required=["metric"],
        anyOf=[{"required": [bound]} for bound in BOUNDS],
        dependencies=_dependencies(suites),
    )


def _tolerance() -> Schema:
    docs = attributes(Tolerance.__doc__ or "")
    size: Schema = {"type": "number", "minimum": 0}
    parts = {field.name: size | {"description": _plain(docs[field.name])} for field in fields(Tolerance)}
    return {"anyOf": [size, _table("Both hold.", parts, minProperties=1)]}


def _metrics(suites: Mapping[str, Suite]) -> list[tuple[Suite, Metric]]:
    return [(suite, metric) for suite in suites.values() for metric in suite.metrics]


def _metric(suite: Suite, metric: Metric) -> list[Schema]:
    """Return the names of a metric: as it is declared, and with its k filled in."""
    name = f"{suite.name}.{metric.name}"
    facts = f"{direction(metric)}, {metric.unit}, {span(metric)}"
    told = f"{_plain(metric.doc)} {facts}. Gate: {tested(metric, suite)}. Source: {_plain(metric.source)}."
    forms: list[Schema] = [{"enum": [name]}]
    forms += [{"pattern": f"^{_pattern(name)}$"}] if "@k" in name else []
    return [form | {"title": name, "description": told} for form in forms]


def _dependencies(suites: Mapping[str, Suite]) -> Schema:
    """Return what a key may be by the metric: its direction, its range, what its suite runs on."""
    known = _metrics(suites)
    asked: Schema = {}
    for key in ("max_drop", "max_rise"):
        bound: dict[str, Any] = {key: Tolerance(abs=0)}
        unfit = [pair for pair in known if misfit(Check(metric="", **bound), *pair)]
        asked[key] = _if(unfit, {key: False})
    for key in ("min", "max"):
        asked[key] = {"allOf": [_if(own, {key: _within(*ends)}) for ends, own in _spans(known).items()]}
    lacking = {
        "dataset": [(s, m) for s, m in known if s.dataset_kind is None],
        "index": [(s, m) for s, m in known if Need.INDEX not in s.needs],
    }
    asked["labels"] = {
        "allOf": [_if(own, {"labels": {"properties": {label: False}}}) for label, own in lacking.items()]
    }
    return asked


def _if(metrics: Iterable[tuple[Suite, Metric]], then: Schema) -> Schema:
    """Return what the keys of a check must be if its metric is one of these."""
    names = "|".join(_pattern(f"{suite.name}.{metric.name}") for suite, metric in metrics)
    meant = {"required": ["metric"], "properties": {"metric": {"pattern": f"^({names})$"}}}
    return {"if": meant, "then": {"properties": then}}


def _spans(known: Iterable[tuple[Suite, Metric]]) -> Mapping[_Span, list[tuple[Suite, Metric]]]:
    spans: dict[_Span, list[tuple[Suite, Metric]]] = defaultdict(list)
    for suite, metric in known:
        if metric.low is not None or metric.high is not None:
            spans[metric.low, metric.high].append((suite, metric))
    return spans


def _within(low: float | None, high: float | None) -> Schema:
    ends = (("minimum", low), ("maximum", high))
    return {key: end for key, end in ends if end is not None}


def _pattern(name: str) -> str:
    """Return the regular expression of a name in which ``@k`` may be any k."""
    return _SPECIAL.sub(r"\\\g<0>", name).replace("@k", "@(k|[0-9]+)")


def _plain(doc: str) -> str:
    return doc.replace("``", "`")
