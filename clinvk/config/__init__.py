"""Settings: their models, where each value comes from, and which of two wins."""
