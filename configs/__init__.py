"""Job files that are shipped: configs/<job>/<name>.yaml, installed as genai_configs."""
