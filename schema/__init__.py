"""What is synced: the tables, each with its kind, scope and policies, and how a database carries them.

One table is one file in tables/, one database one file in dialects/.
The command's root, cli, also lives here because it stands above neither node nor server.

Reading order: declare, past, registry, tables/, dialects/base, dialects/sqlite, install, capture, keys, images, importer/, cli.
Versions of the declaration and of files: lens, notices, upgrade, bookkeeping, migrations/.

May import: sync. Never node or server.
"""
