"""Why a row is not what was asked, and what would be next: by a part of the work's name.

Written by hand after a run, and shown only while the row falls short; ``python -m bench --page`` writes the
page again from the last run.
"""

SHORTFALLS: dict[str, str] = {
    "open a version and read all vectors, 400,000 x 50": (
        "Reading takes 6 ms from the page cache; the rest is asking the database which files the version "
        "is, and seeing that they are as they were when they were checked. Next: one query for both."
    ),
    "open a version and read all vectors, 1,000,000 x 384": (
        "Opening each of its 12 parts takes Arrow 0.3 ms, most of it asking the system to read ahead. "
        "Python's own mmap does not (1.03 of the peer's time when tried), but holds a file descriptor "
        "for each part."
    ),
    "read GloVe text": (
        "One piece of the file was parsed at a time. They are parsed beside each other since; the row by "
        "itself, measured again after that: 733 ms against 511 ms, 0.71x (0.67–0.90)."
    ),
    "6 suites": (
        "Half of the time is quantization: product quantization is trained and decoded by FAISS as it is "
        "for the peer (some 3 s), and 18,000 queries for 41 neighbours each start with no idea how near "
        "these are, which costs as much as their products. Next: start each from the distances of its "
        "exact neighbours."
    ),
}
