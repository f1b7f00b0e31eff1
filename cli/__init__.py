"""The command line of genai: one thin file per verb; everything heavy is imported inside the function that needs it."""
