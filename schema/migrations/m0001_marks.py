"""Before the first kept database: marks that development files may lack."""

NODE = (
    ("_node", "erase", "INTEGER NOT NULL DEFAULT 0"),
    ("_conflict", "deciding", "INTEGER NOT NULL DEFAULT 0"),
)
SERVER = (
    ("_change", "whole", "INTEGER NOT NULL DEFAULT 0"),
    ("_conflict", "decided", "BLOB"),
)
