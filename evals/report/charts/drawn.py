"""Pictures as files, and the JavaScript that draws them in a page: both come with vl-convert, offline."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .chart import Chart

_TEMPLATES = Path(__file__).parent.parent / "templates"
#: The width of a file in pixels, where the page would give its own.
_WIDTH = 640
_SCALE = 2
_EMBED = "window.vegaEmbed = vegaEmbed;"


@cache
def library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that asks nobody for anything."""
    import vl_convert

    script: str = vl_convert.javascript_bundle(_EMBED)
    return safe_script(script)


@cache
def drawing() -> str:
    """Return the script that draws every picture of a page."""
    return safe_script((_TEMPLATES / "charts.js").read_text(encoding="utf-8"))


def safe_script(script: str) -> str:
    """Return a script that cannot end its element early: what would is in its strings and patterns only."""
    return re.sub(r"<(?=/script|script|!--)", r"\\x3c", script, flags=re.IGNORECASE)


def integrity(script: str) -> str:
    """Return ``'sha256-…'``, as a Content-Security-Policy names a script that may run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def spec_json(chart: Chart) -> str:
    """Return a specification as JSON that may stand inside ``<script type="application/json">``."""
    text = json.dumps(chart.full_spec(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def svg(chart: Chart) -> str:
    """Return a picture as SVG, on a light ground."""
    import vl_convert

    drawn: str = vl_convert.vegalite_to_svg(_on_light(chart))
    return drawn


def png(chart: Chart) -> bytes:
    """Return a picture as PNG, on a light ground, twice as fine as a screen."""
    import vl_convert

    drawn: bytes = vl_convert.vegalite_to_png(_on_light(chart), scale=_SCALE)
    return drawn


def _on_light(chart: Chart) -> str:
    colours = _light_colours()
    spec = {"background": "#fff"} | chart.full_spec()
    if spec.get("width") == "container":
        spec["width"] = _WIDTH
    spec["config"] = {k: v for k, v in spec["config"].items() if k != "background"}
    text = json.dumps(spec, ensure_ascii=False, allow_nan=False)
    return re.sub(r"var\(--([a-z]+)\)", lambda found: colours[found[1]], text)


@cache
def _light_colours() -> dict[str, str]:
    """Return the colours of the style sheet by role, as they are where nothing asks for the dark."""
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    light = style[: style.index("@media")]
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", light))
