"""``python -m tailwise``, the same as the command ``tailwise``."""

from tailwise.cli.main import main

if __name__ == "__main__":
    main()
