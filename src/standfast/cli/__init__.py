"""The command line: one module a group of commands, each thin. It translates; it decides nothing."""
