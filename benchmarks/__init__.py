"""Speed measurements. They are run as scripts from the repository root and are no part of the package."""
