"""Design: chips made of free parameters, and the search that its own gradient leads."""
