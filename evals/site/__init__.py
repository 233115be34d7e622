"""A registry as static pages: what there is of it, one file a kind of page, and how they come onto a disk.

``Site`` says which pages there are and makes any one of them; ``writing`` keeps a directory up to date. A
page is a pure function of what the registry holds: none has a clock, so what did not change is not written.
"""
