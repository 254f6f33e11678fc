"""`python -m mmadfer`: the command line where the `mmadfer` command is not on the path."""

from mmadfer.cli.main import main

main()
