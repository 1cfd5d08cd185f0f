"""Views over the ledger."""
