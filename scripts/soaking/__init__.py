"""What `scripts/soak.py` is made of: a server, those who ask it, and what is watched meanwhile."""
