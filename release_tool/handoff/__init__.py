"""A release on its way to another machine: the ledger and what it names, in one archive."""
