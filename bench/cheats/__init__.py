"""The campaign of cheats: ``python -m bench.cheats --json`` (``__main__`` says what runs)."""
