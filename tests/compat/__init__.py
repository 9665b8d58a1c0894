"""Databases and recorded traffic of earlier versions, and what today's code must make of them."""
