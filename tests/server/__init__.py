"""The server's modules on a real database."""
