"""Stories that are shipped: recipes/<story>/, installed as genai_recipes."""
