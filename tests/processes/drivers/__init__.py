"""Programs that tests start: each a process of its own."""
