"""The command `dspa`: thin over the library."""
