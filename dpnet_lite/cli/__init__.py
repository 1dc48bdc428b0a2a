"""The command line: a file a command, whose `add_options` loads nothing heavy; no other room imports this one."""
