"""Import: files written by other programs become rows of the synced tables.

Shared by node and server. What a file means is data: a mapping in TOML (mappings/, or a user's own), never code.

    paths ─► reader ─► fields ─► spool ─► rows, documents ─► writer ─► ImportTarget ─► report
             cells     typed     grouped  rows of tables     what is new, one sync transaction at a time

Reading order: errors, vocabulary (what a mapping can say), mapping (loads one), amounts, reader, locate, fields, spool,
swallowed, gather, columns, rows, documents, target, brought, present, writer, report, run.

May import: nothing of node and server.
"""
