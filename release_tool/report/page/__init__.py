"""The page of one release: what its ledger says, as one HTML file and its Markdown twin."""
