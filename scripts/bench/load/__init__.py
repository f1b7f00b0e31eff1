"""Part `endpoint` of the benchmark of `genai eval`: a server asked by it, beside a bare load generator."""
