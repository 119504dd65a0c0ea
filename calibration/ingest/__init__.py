"""Results of others' benchmark tools, as rows of the serving or the kernel schema; a file for each tool."""
