"""What the data is and where it lies: tables, keys, the ledger, artifacts, media. No torch, no ray, no pydantic."""
