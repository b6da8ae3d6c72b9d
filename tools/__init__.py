"""What `make` calls: runs the notebooks, writes their badges and set-up cells."""
