"""`python -m usjepa`, which torchrun starts."""

from usjepa.cli import main

if __name__ == "__main__":
    main()
