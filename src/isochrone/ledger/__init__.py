"""The chain: its client, the embedded anvil, contract artefacts, vouchers, settlement calls."""
