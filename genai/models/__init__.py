"""Models: where they come from, how they are loaded, adapted, talked to and written down."""
