"""What is wrong with a data set: faults told by its columns and by its files, and their repair."""
