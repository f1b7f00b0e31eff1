"""Models that read steps, one kind a file; each meets `genai.inference.interfaces.Runner`."""
