"""The pages that people read, held to what the tool does."""
