"""Tests of schema/importer: its parts, and whole imports of small files made here."""
