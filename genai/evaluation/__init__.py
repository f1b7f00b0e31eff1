"""Quality: what is asked of a target, how its answers are scored, what the scores are worth."""
