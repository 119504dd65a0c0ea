"""Library: chips, models, memory technologies and published results, each number with its source."""
