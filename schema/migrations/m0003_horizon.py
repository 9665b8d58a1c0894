"""The horizon: what the centre keeps no more, how far each node was settled, and that a node which was away has shown what it works on.
Windows: how many days a node keeps, and from when on it has what rolls.
"""

NODE = (
    ("_node", "recalled", "INTEGER NOT NULL DEFAULT 0"),
    ("_node", "shown", "INTEGER NOT NULL DEFAULT 0"),
    ("_node", "edge", "INTEGER NOT NULL DEFAULT 0"),
)
SERVER = (
    ("_node", "settled", "INTEGER NOT NULL DEFAULT 0"),
    ("_node", "keep_days", "INTEGER NOT NULL DEFAULT 0"),
    ("_snapshot", "edge", "INTEGER NOT NULL DEFAULT 0"),
    ("_server", "horizon", "INTEGER NOT NULL DEFAULT 0"),
    ("_server", "swept", "INTEGER NOT NULL DEFAULT 0"),
    ("_server", "emptied", "INTEGER NOT NULL DEFAULT 0"),
    ("_server", "aged", "INTEGER NOT NULL DEFAULT 0"),
    ("_server", "tended_ms", "INTEGER NOT NULL DEFAULT 0"),
)
