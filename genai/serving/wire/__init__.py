"""What requests and answers look like on the wire: msgspec structs, one module an API."""
