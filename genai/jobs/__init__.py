"""One composition root per verb: the only place that wires rooms together."""
