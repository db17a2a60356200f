"""Real runs on this machine that take long: kills, losses of data, streams that misbehave."""
