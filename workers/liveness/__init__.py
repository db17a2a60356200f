"""How the fleet knows that a worker lives, and what it runs."""
