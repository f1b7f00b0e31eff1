"""The server: an ASGI application in the words of OpenAI's API, one API a file, one middleware a file."""
