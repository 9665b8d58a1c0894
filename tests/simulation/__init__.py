"""The real code of nodes and a server in one process, with a seeded network: same seed, same trace."""
