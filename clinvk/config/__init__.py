"""All settings: their models, the file and the environment that set them, and which value wins."""
