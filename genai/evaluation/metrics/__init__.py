"""How outcomes are scored, one metric a file; `registry` finds them by name."""
