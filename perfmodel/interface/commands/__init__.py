"""One file for each group of commands; what they need they import when they run, so that help is instant."""
