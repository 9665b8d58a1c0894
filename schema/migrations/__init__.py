"""The engine's own tables from release to release: one file for each change, its number first, for node and server.

A file is named `m<number>_<what>.py` and states `NODE` and `SERVER`: the columns it adds as (table, column, declaration).
Tables and indexes that are new need no file: they are made where they are missing. The greatest number is the version
of the bookkeeping that this program writes (schema/bookkeeping.py). What was released is not edited any more.
"""
