"""Why a row is not what was asked, and what would be next: by a part of the work's name.

Written by hand after a run, and shown only while the row falls short; ``python -m bench --page`` writes the
page again from the last run.
"""

SHORTFALLS: dict[str, str] = {}
