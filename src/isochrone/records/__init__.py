"""Records: the fsynced spool of tallies, and content-addressed files that anybody can read."""
