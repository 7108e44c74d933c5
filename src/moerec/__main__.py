"""`python -m moerec`, the same as `moerec`."""

from moerec.cli.entry import main

if __name__ == "__main__":
    main()
