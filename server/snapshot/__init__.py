"""The first pull as a file: all rows of a scope at one version, made once and told to every node that has this scope.

    a node that holds nothing asks ─► answer.py: is there one? ─► shelf.py: its next part ══► the node
                                           └─ no ─► making.py, in the background ─► build.py: rows ─► SQLite file ─► zstd ─► shelf.py

Spec: PROTOCOL.md §8.5. Counterparts: node/fetching.py, node/first.py.
"""
