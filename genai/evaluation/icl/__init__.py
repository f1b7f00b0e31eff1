"""Tasks of in-context learning as llm-foundry writes them: their prompts, their accuracies and their averages."""
