"""`python -m fairway`: the command line."""

from fairway.cli.main import main

if __name__ == "__main__":  # tests import every module
    main()
