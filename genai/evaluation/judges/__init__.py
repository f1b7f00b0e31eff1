"""Models that judge answers: rubrics, prompts, verdicts, panels, and how far they agree with people."""
