"""The parts of index.py: what is searched, by whom, and what a sync costs."""
