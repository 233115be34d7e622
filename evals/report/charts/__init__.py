"""The pictures of a report: each a Vega-Lite specification with its data, made by a pure function.

One file a picture. Nothing here draws: a page does, with Vega's own JavaScript, and ``drawn`` where a file is
wanted. Why plain specifications: docs/adr/0015-charts-are-values.md.
"""
