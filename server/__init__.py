"""The centre: takes what the nodes push, decides, journals it and feeds every node what its scopes entitle it to.

Reading order, which is the way of a sale: app, service, ingest, bulk (the fast path) and merge (the slow one), journal,
scopes, then back: sweep, feed, whole, notices. Around it: cli, home, database, nodes, nonces, histories, centre, report, console/.
Nodes of other versions, and an older file of its own: skew, upgrade, preview.

May import: sync, schema. Never node.
"""
