"""The node's modules on a real SQLite file."""
