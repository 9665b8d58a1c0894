"""A replica at work: a shop's till or a rep's laptop, which records in local SQLite and syncs when it can.

Reading order, which is the way of a sale: database, capture, outbox, cycle, transport, then back: apply (rebase),
conflicts. Around it: cli, config, identity, runner, demo.

May import: sync, schema. Never server.
"""
