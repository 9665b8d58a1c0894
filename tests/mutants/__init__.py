"""Deliberate protocol bugs: bugs.toml lists them, mutants.py switches them on one at a time. See scripts/mutants.py."""
