"""The kernel's verbs in any order, against a plain Python model of what they should do."""
