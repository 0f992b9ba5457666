"""What the subcommands do: thin functions that take options, call the stages and say what to do next."""
