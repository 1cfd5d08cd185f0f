"""One module for each outside thing, each the only importer of its library."""
