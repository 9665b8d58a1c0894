"""A replica at work: a shop's till or a rep's laptop, which records in local SQLite and syncs when it can.

Reading order, which is the way of a sale: database, outbox, sealing, cycle, transport, then back: apply, pending (rebase),
conflicts. Around it: cli, identity, joining, writer, verify, demo/.
A centre of another version, and an older file of its own: skew, upgrade.

May import: sync, schema. Never server.
"""
