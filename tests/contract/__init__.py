"""Suites that list a folder (policies, tables, dialects, vectors) and hold every file in it to the same promises."""
