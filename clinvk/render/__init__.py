"""Pure functions from results to what is printed; one file for each form."""
