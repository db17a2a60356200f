"""From the bytes of a task file to validated tasks.

`sources` gives the bytes, `parsing` makes plain values of them, `task_validation` makes a
`TaskSpec` of each, and `reader` does all of it and collects everything that is wrong.
"""
