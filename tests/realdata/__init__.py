"""The public sales data, imported and synced, against an independent computation."""
