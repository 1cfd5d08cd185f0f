"""Reading, writing and packing files safely."""
