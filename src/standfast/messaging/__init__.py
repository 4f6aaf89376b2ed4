"""Messages: what is to be sent, what came in, and who is told of it; kept on this machine's disk."""
