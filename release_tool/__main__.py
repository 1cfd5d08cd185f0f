"""`python -m release_tool` is the same as `release-tool`."""

from release_tool.cli.entry import main

if __name__ == "__main__":
    main()
