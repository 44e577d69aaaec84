"""The Python SDK: read a declaration, sign it, talk to a gateway's admin API."""
