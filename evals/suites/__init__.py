"""The standard suites: one file each, found by module name (see ``evals.runner.discover``)."""
