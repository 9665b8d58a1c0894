"""Declarations, generated SQL, the importer and the command's root."""
