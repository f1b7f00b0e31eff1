"""genai: from your own data to a generative-AI application in production, by YAML job files."""

__version__ = "0.1.0"
