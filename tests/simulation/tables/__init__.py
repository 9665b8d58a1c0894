"""The simulator's own tables: small, and every policy, kind and scope rule among them."""
