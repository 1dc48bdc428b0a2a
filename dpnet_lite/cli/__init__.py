"""The command line `dpnet-lite`: a file a command; nothing here is imported by the rest of the package."""
