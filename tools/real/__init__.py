"""What tools/real_files.py reads, with what, and what it compares the outputs with."""
