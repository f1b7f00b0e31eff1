"""Tables that keep their versions."""
