"""Real servers and nodes as processes over loopback HTTP: cut, killed, run again."""
