"""The real CLIs, installed at pinned versions, against a fake model API in a sealed network."""
