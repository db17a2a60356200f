"""A private server and its workers, for the length of one command."""
