"""`python -m clinvk` is `clinvk`."""

from clinvk.cli import main

if __name__ == "__main__":
    main()
