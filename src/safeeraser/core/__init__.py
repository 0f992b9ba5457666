"""What every stage stands on: errors, files, locks, registries, the terminal. Imports nothing else of the package."""
