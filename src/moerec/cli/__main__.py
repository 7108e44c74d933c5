"""`python -m moerec.cli`, the same as `moerec`."""

from moerec.cli.entry import main

main()
