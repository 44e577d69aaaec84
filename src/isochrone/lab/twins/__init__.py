"""In-memory twins of what the network talks to; each passes the real one's conformance suite."""
