"""``python -m edgepose``."""

from .cli import main

if __name__ == "__main__":
    main()
