"""Vector indexes: a ledger that knows every chunk, a sync that follows a source, engines that search, and queries."""
