"""What a job leaves behind: its run directory, its metrics, what it ran on, and who holds it."""
