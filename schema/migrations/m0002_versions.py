"""Versions of the declaration: what a node asks for afresh, what it told of itself, and the rules a table was made with."""

NODE = (
    ("_node", "afresh", "TEXT"),
    ("_table", "rules", "TEXT"),
)
SERVER = (
    ("_node", "schema", "INTEGER"),
    ("_table", "rules", "TEXT"),
)
