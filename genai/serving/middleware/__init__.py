"""What every request goes through before an API sees it: one check a file, called in order by `genai.serving.app`.

They are plain calls, no nested applications: a request pays for what it needs, and the order is read in one place.
"""
