"""Part `perplexity` of the benchmark of `genai eval`: likelihoods of a model in this process, beside lm-eval's."""
