"""Results of others' benchmark tools, read as rows of the serving or of the kernel schema; one file a tool."""
