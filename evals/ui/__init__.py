"""The site of a registry, live and read-only, with questions about single rows: ``embreg ui``.

``guard`` lets nobody in who may not, ``asked`` reads what a form says, ``search`` answers it, ``app`` joins
them to addresses, ``serving`` listens.
"""
