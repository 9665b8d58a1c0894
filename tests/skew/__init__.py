"""Nodes and centre with different versions of the declaration: every kind of change, both ways round."""
