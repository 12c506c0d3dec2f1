"""The command line, for tests of other packages that run a command."""

from dspa_nn.cli.app import app

__all__ = ["app"]
