"""What is asked: servers over HTTP, and answers that were logged earlier."""
