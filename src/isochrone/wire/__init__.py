"""The byte path: HTTP/1.1 in and out, and the channel between nodes and gateways."""
