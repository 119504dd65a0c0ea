"""Golden rows: numbers of every part of the program, kept, so that none changes unseen."""
