"""One task from its spec to its result, as processes of this machine."""
