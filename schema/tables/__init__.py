"""The tables that sync, one file each. Found by listing this folder (schema/registry.py)."""
