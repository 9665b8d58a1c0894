"""Outpost's tests: one folder per package, and folders for what only shows when the packages work together."""
