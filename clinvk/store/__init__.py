"""All that is Redis: what its keys are called, how it is reached, and each operation on them."""
