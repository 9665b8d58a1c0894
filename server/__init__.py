"""The centre: takes what the nodes push, decides, journals it and feeds every node what its scopes entitle it to.

Reading order, which is the way of a sale: app, auth, ingest, journal, scopes, feed. Around it: cli, config, database,
report, console/.

May import: sync, schema. Never node.
"""
