"""What is printed and written: one file for each form."""
