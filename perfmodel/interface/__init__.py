"""Interface: the command line, tables and pictures."""
