"""The reports: a file for the page of each command, and `page`, which writes it."""
