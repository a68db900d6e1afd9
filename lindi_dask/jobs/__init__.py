"""What every job has that can be gone on with: a ledger of what is done, and a lock, so that one process runs it."""
