"""Programs that stand in for Apple's tools: they check each argument and play Apple's answers."""
