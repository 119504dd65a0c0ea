"""Hardware: memories, networks and chips, and how efficiently they are used."""
