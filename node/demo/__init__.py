"""`outpost demo`: story.py tells it, data.py invents its people and receipts, server.py runs the real server."""
